"""Metrics of real processes, with bounded labels; dashboard and alerts query only metrics that exist."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import VENDORS
from fhirline.streams.deliver.metrics import DeliverMetrics
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.enrich.metrics import EnrichMetrics
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.observe.metrics.endpoint import bind_port
from fhirline.streams.observe.metrics.labels import OTHER, PATHS
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.step2_consume.metrics import VendorMetrics, WorkerMetrics
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.topics.declared import ENRICHED, raw_topic
from tests.support.cases import cases
from tests.support.dashboard import DASHBOARD, EXPRESSIONS, GRAFANA, OF_PROMETHEUS, OWN_LABELS, named
from tests.support.enriching import TENANT, enriching, survey
from tests.support.infermedica_server import InfermedicaServer
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.waiting import LIMIT
from tests.support.watching import WorkerEndpoint, get, watched
from tests.support.workload import produce

MANY = PATHS + 50

Sample = tuple[str, dict[str, str], float]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerEndpoint]:
    with watched(tmp_path_factory.mktemp("metrics")) as running:
        yield running


def samples(text: str) -> list[Sample]:
    return [
        (sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def total(text: str, name: str, **labels: str) -> float:
    """Sum the samples that have these labels."""
    return sum(value for found, own, value in samples(text) if found == name and labels.items() <= own.items())


# --- what is counted --------------------------------------------------------------------------------------------------


def test_an_event_is_counted_from_webhook_to_canonical(stack: WorkerEndpoint) -> None:
    case = next(item for item in cases() if (item.vendor, item.name) == ("altibbi", "unmapped_codes"))
    before = total(get(f"{stack.worker_url}/metrics")[1], "fhirline_events_total", vendor="altibbi")
    body = {**case.events[0], "something_new": {"at": [1, {"deep": 2}]}}
    assert stack.gateway.post("/webhooks/altibbi", body).status == 202
    assert stack.gateway.post("/webhooks/altibbi", body, x_webhook_secret="wrong").status == 401
    assert stack.gateway.post("/webhooks/nobody", body).status == 404
    told = stack.until(lambda text: total(text, "fhirline_events_total", vendor="altibbi") == before + 1)
    assert total(told, "fhirline_resources_total", vendor="altibbi", outcome="published") > 3
    assert total(told, "fhirline_unmapped_codes_total", vendor="altibbi") > 0
    assert total(told, "fhirline_drift_total", path="/something_new") == 1
    assert total(told, "fhirline_raw_to_canonical_seconds_count", vendor="altibbi") >= 1
    assert total(told, "fhirline_batch_events_sum", vendor="altibbi") >= 1
    assert total(told, "fhirline_state_bytes", topic="normalizer.state.altibbi") > 100
    received = stack.scraped()["gateway"]
    for status, vendor, outcome in (
        *(("202", "altibbi", "accepted"), ("401", "altibbi", "unauthorized")),
        ("404", "unknown", "unknown-vendor"),
    ):
        assert total(received, "fhirline_webhooks_total", status=status, vendor=vendor, outcome=outcome) == 1
    assert total(received, "fhirline_receive_to_raw_seconds_count", vendor="altibbi") == 1
    assert total(received, "fhirline_receive_to_raw_seconds_sum", vendor="altibbi") > 0


def test_a_dead_letter_is_counted_by_its_code_and_an_old_event_has_no_latency(stack: WorkerEndpoint) -> None:
    producer = Producer({"bootstrap.servers": stack.broker.bootstrap})
    a_week_ago = int((time.time() - 7 * 86_400) * 1000)
    producer.produce(raw_topic("mediquo"), b"{not json", b"k", timestamp=a_week_ago)
    assert producer.flush(LIMIT) == 0
    told = stack.until(lambda text: total(text, "fhirline_dead_letters_total", vendor="mediquo", code="not-json") == 1)
    assert total(told, "fhirline_events_total", vendor="mediquo", outcome="dead-letter", event_type="unknown") == 1
    assert total(told, "fhirline_old_events_total", vendor="mediquo") == 1
    assert total(told, "fhirline_raw_to_canonical_seconds_count", vendor="mediquo") == 0


def test_every_partition_has_a_lag_that_ends_at_zero(stack: WorkerEndpoint) -> None:
    """The partitions of every raw topic and of the contributions to Practitioners, some of them empty."""
    partitions = 6 * (len(VENDORS) + len(ENRICHED) + 1)

    def finished(text: str) -> bool:
        lags = [value for name, _, value in samples(text) if name == "fhirline_lag_records"]
        return len(lags) == partitions and not any(lags)

    told = stack.until(finished)
    assert total(told, "fhirline_topic_partitions") == partitions


def test_the_enrichment_counts_its_surveys(tmp_path: Path) -> None:
    """One that is completed, and one that does not exist."""
    with EmbeddedBroker() as broker, InfermedicaServer() as api:
        create_topics(broker.bootstrap)
        running = RunningBroker("embedded", broker.bootstrap)
        produce(running.settings(), [survey("s-1"), survey("s-2")])
        api.complete("s-1")
        content = yaml.safe_load((GRAFANA.parents[1] / "config" / "vendors.yaml").read_text("utf-8"))
        content["vendors"]["infermedica"]["tenants"][TENANT] = {"enrichment": True}
        (tmp_path / "vendors.yaml").write_text(yaml.safe_dump(content), "utf-8")
        with enriching(running, api, tmp_path / "vendors.yaml", FHIRLINE_METRICS_PORT="0") as process:
            url = process.wait_for("metrics listening")["url"]
            end = time.monotonic() + LIMIT
            while total(told := get(url)[1], "fhirline_surveys_total") < 2:
                assert time.monotonic() < end, process.report("is")
                time.sleep(0.1)
            assert get(url.replace("/metrics", "/readyz"))[0] == 200
    assert total(told, "fhirline_surveys_total", outcome="enriched") == 1
    assert total(told, "fhirline_surveys_total", outcome="dead-letter") == 1
    assert total(told, "fhirline_dead_letters_total", vendor="infermedica", code="enrichment-failed") == 1
    assert total(told, "fhirline_survey_seconds_count") == 1
    groups = {labels["group"] for name, labels, _ in samples(told) if name == "fhirline_topic_partitions"}
    assert groups == {"fhirline.enrich"}


def test_health_and_readiness(stack: WorkerEndpoint) -> None:
    stack.until(lambda _: get(f"{stack.worker_url}/readyz")[0] == 200)
    assert get(f"{stack.worker_url}/healthz") == (200, '{"status": "ok"}')


def test_a_port_in_use_is_named() -> None:
    bound_socket = bind_port(Settings(metrics_port=0, _env_file=None))
    assert bound_socket is not None
    with bound_socket as held:
        port = held.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"FHIRLINE_METRICS_PORT: 127.0.0.1:{port}: .*port of its own"):
            bind_port(Settings(metrics_port=port, _env_file=None))
    assert bind_port(Settings(_env_file=None)) is None


# --- labels are bounded -----------------------------------------------------------------------------------------------


def test_a_vendor_that_invents_names_creates_a_bounded_number_of_series() -> None:
    """Hundreds of undeclared event types, fields, codes and resource types."""
    normalize, registry = build_normalizer(Settings(_env_file=None)), new_registry("worker")
    of = VendorMetrics(WorkerMetrics(registry), "mediquo", normalize.terminology.names)
    case = next(item for item in cases() if item.vendor == "mediquo")
    for number in range(MANY):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        body = {"event": f"invented_{name}", "event_type": name, "consultation": {f"field{name}": {name: number}}}
        for content in (
            orjson.dumps({**case.events[0], f"new{name}": number}),
            orjson.dumps(body),
            b"{" + name.encode(),
        ):
            raw = ConsumerRecord("raw.mediquo", 0, number, 0, None, content, [("event-type", name.encode())])
            followed = map_event(raw, normalize, InMemoryState(), 6)
            batch = of.batch()
            batch.event(followed)
            batch.delivered([raw], followed.records, [], 0)
    found: dict[str, dict[str, set[str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            for label, value in sample.labels.items():
                found.setdefault(family.name, {}).setdefault(label, set()).add(value)
    paths = found["fhirline_drift"]["path"]
    assert len(paths) == PATHS + 1
    assert OTHER in paths
    assert sum(metric.value for metric in _samples(registry, "fhirline_drift_total")) >= MANY, "counted all the same"
    assert len(found["fhirline_events"]["event_type"]) < 40
    assert found["fhirline_events"]["vendor"] <= set(VENDORS)
    assert len(found["fhirline_resources"]["resource_type"]) < 40
    assert len(found["fhirline_dead_letters"]["code"]) < 30
    assert len(found["fhirline_unmapped_codes"]["table"]) < 30


def _samples(registry: Any, name: str) -> list[Any]:
    return [sample for family in registry.collect() for sample in family.samples if sample.name == name]


# --- dashboard and alerts ---------------------------------------------------------------------------------------------


def everything_happens(stack: WorkerEndpoint) -> None:
    """Post events that no other test counts: a mapped one, one with an unknown word, an unreadable one."""
    for case in (item for item in cases() if item.vendor == "azodha"):
        route = f"/{case.route_event}" if case.route_event else ""
        assert stack.gateway.post(f"/webhooks/azodha/acme{route}", case.events[0]).status == 202
    producer = Producer({"bootstrap.servers": stack.broker.bootstrap})
    producer.produce(raw_topic("azodha"), b"{not json", b"k")
    assert producer.flush(LIMIT) == 0
    happened = ("resources", "unmapped_codes", "dead_letters")
    stack.until(lambda text: all(total(text, f"fhirline_{item}_total", vendor="azodha") for item in happened))
    stack.until(lambda text: "fhirline_lag_records{" in text)  # as of the worker's last fetch


def test_everything_that_dashboard_and_alerts_query_exists(stack: WorkerEndpoint) -> None:
    everything_happens(stack)
    exposed: dict[str, set[str]] = {name: set() for name in OF_PROMETHEUS}
    enrich = new_registry("enrich")
    EnrichMetrics(enrich, "infermedica", ("enrichment-failed",))
    deliver = new_registry("deliver")
    DeliverMetrics(deliver).request("200")
    families = [*(f for text in stack.scraped().values() for f in text_string_to_metric_families(text))]
    tables = new_registry("tables")
    TablesMetrics(tables).rows.labels("encounter")
    for family in (*families, *enrich.collect(), *deliver.collect(), *tables.collect()):
        for sample in family.samples:
            exposed.setdefault(sample.name, set()).update(sample.labels)
    # Schema drift has no series before the first: its name is in the scrape, its labels in the family.
    drift = WorkerMetrics(new_registry("worker")).drift
    assert drift._name in {family.name for family in families}
    exposed.setdefault("fhirline_drift_total", set()).update(drift._labelnames)
    variables = [item["query"]["query"] for item in DASHBOARD["templating"]["list"] if item["type"] == "query"]
    for expression in EXPRESSIONS:
        metrics, selected, grouped = named(expression)
        assert metrics, expression
        assert metrics - exposed.keys() == set(), expression
        for metric, labels in selected.items():
            assert labels - exposed[metric] - OWN_LABELS == set(), expression
        assert grouped - set().union(*(exposed[item] for item in metrics)) - OWN_LABELS == set(), expression
    for query in variables:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert found, query
        assert found[2] in exposed[found[1]]
    asked = {name for expression in EXPRESSIONS for name in named(expression)[0]}
    every = (*families, *enrich.collect(), *deliver.collect(), *tables.collect())
    own = {family.name for family in every if family.name.startswith("fhirline_")}
    assert {name for name in own if not any(item.startswith(name) for item in asked)} == set(), "shown nowhere"
