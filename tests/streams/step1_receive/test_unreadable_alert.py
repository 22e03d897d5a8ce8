"""The alert on bodies that nothing can read fires after the first one: its rule, evaluated on a gateway's metrics.

promtool evaluates the rules on samples of its own (tests/streams/observe/test_metrics.py). Here the samples are those
of a gateway before and after it has refused bodies.
"""

import re
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support.paths import DOCKER
from tests.support.receiving import running_gateway

RULES = yaml.safe_load((DOCKER / "grafana" / "prometheus" / "rules" / "fhirline.yml").read_text("utf-8"))
ALERT = "FhirlineBodiesUnreadable"
FORM = re.compile(r"sum by \(([\w, ]+)\) \(increase\((\w+)\[\w+\]\)\) > 0")

Labels = tuple[str, ...]


def rule() -> tuple[tuple[str, ...], str]:
    """Return the labels by which the rule sums, and its metric."""
    [expression] = [item["expr"] for group in RULES["groups"] for item in group["rules"] if item.get("alert") == ALERT]
    found = FORM.fullmatch(expression.strip())
    assert found, expression
    return tuple(found[1].split(", ")), found[2]


def sums(scraped: str) -> dict[Labels, float]:
    by, metric = rule()
    found: dict[Labels, float] = {}
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            if sample.name == metric:
                labels = tuple(sample.labels[name] for name in by)
                found[labels] = found.get(labels, 0) + sample.value
    return found


def firing(before: str, after: str) -> set[Labels]:
    """Return the labels for which the rule fires. As Prometheus does, count only series that were there before."""
    earlier = sums(before)
    return {labels for labels, value in sums(after).items() if labels in earlier and value - earlier[labels] > 0}


def test_the_first_body_of_a_vendor_that_nothing_can_read_fires_the_alert(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    with running_gateway(broker.bootstrap, tmp_path, FHIRLINE_METRICS_PORT="0") as gateway:
        assert gateway.post("/webhooks/mediquo", {"type": "x"}).status == 202
        before = gateway.metrics
        assert firing(before, gateway.metrics) == set()
        assert gateway.post("/webhooks/altibbi", b'{"user_id": 1').status == 400
        assert gateway.post("/webhooks/azodha/acme/BookAppointment", b"\xff\xfe{\x00}\x00").status == 400
        assert firing(before, gateway.metrics) == {("altibbi", "cut-off"), ("azodha", "utf-16")}
