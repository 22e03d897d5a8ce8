"""TLS, SASL and ACLs against Apache Kafka: each process with exactly the privileges that docs/security.md lists."""

import subprocess
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import confluent_kafka
import orjson
import pytest
from confluent_kafka import Consumer

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import RecordPosition, TopicPartition, from_confluent
from fhirline.streams.step2_consume.faust.offset_gaps import PositionsUnknown, committed_offsets
from fhirline.topics.declared import (
    BUNDLE,
    ERASED,
    KEYS,
    canonical_topic,
    declared,
    enriched_topic,
    raw_topic,
    state_topic,
)
from fhirline.topics.privileges import PROCESSES, Grant
from tests.support.cases import cases
from tests.support.delivery import case_records, write
from tests.support.ehr.fixture import EhrServers
from tests.support.infermedica_server import CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.kafka.users import GROUP, PARTITIONS, PASSWORDS, Cluster
from tests.support.paths import ROOT
from tests.support.processes import Command, command
from tests.support.receiving import running_gateway
from tests.support.token_server import TokenServer
from tests.support.waiting import LIMIT
from tests.support.workload import events, produce

WRONG = "a-wrong-password"
SAMPLES = ROOT / "streams" / "demo" / "samples"


def awaited(settings: Settings, topic: str, count: int, by: Command) -> list[Any]:
    """Read a topic's first records as the super user, opened, once ``by`` has written them."""
    opener = Opener(settings)
    consumer = Consumer(
        librdkafka(settings, **{"group.id": f"test.{time.monotonic_ns()}", "auto.offset.reset": "earliest"})
    )
    found: list[Any] = []
    try:
        consumer.subscribe([topic])
        end = time.monotonic() + LIMIT
        while len(found) < count:
            assert by.running, by.output
            assert time.monotonic() < end, f"{topic}: {len(found)} records\n{by.output}"
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                opened = opener.open_message(message)
                assert opened is not None, "destroyed keys"
                found.append(orjson.loads(opened.value() or b"null"))
        return found
    finally:
        consumer.close()
        opener.close()


def in_clear(settings: Settings, topic: str) -> list[RecordPosition]:
    """Return the positions of a topic's records that are not encrypted."""
    with LogScanner(settings) as scanner:
        records = map(from_confluent, scanner.stored(dict.fromkeys(scanner.topic_partitions([topic]))))
        return [record.position for record in records if not is_sealed(record)]


def written(settings: Settings, topic: str) -> int:
    """Count the records of a topic."""
    consumer = Consumer(librdkafka(settings, **{"group.id": "test.count"}))
    try:
        places = [confluent_kafka.TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        return sum(consumer.get_watermark_offsets(place, timeout=LIMIT)[1] for place in places)
    finally:
        consumer.close()


def test_every_process_works_with_exactly_its_privileges(cluster: Cluster, tmp_path: Path) -> None:
    """Webhook → gateway → worker → resources → tables; file → ingest; survey → enrich; each with its own user."""
    file = tmp_path / "events.ndjson"
    file.write_bytes(orjson.dumps(orjson.loads((SAMPLES / "altibbi-recommendation.json").read_bytes())))
    raw = [topic.name for topic in declared(cluster.settings) if topic.name.startswith("raw.")]
    before = {position for topic in raw for position in in_clear(cluster.settings, topic)}  # of other tests
    with InfermedicaServer() as api:
        api.complete("s-1")
        enrichment = {
            "FHIRLINE_INFERMEDICA_URL": api.url,
            "FHIRLINE_INFERMEDICA_CLIENT_ID": CLIENT_ID,
            "FHIRLINE_INFERMEDICA_CLIENT_SECRET": CLIENT_SECRET,
        }
        with (
            command("worker", environ=cluster.environ("worker")) as worker,
            command("enrich", environ=cluster.environ("enrich", **enrichment)) as enrich,
            command("ingest", "altibbi", str(file), environ=cluster.environ("ingest")) as ingest,
            running_gateway(cluster.kafka.secure_bootstrap, tmp_path, **cluster.environ("gateway")) as gateway,
        ):
            assert ingest.wait() == 0, ingest.output
            assert gateway.request("GET", "/readyz").json == {"status": "ready"}
            mediquo = orjson.loads((SAMPLES / "mediquo-consultation.json").read_bytes())
            assert gateway.post("/webhooks/mediquo", mediquo).status == 202
            survey = {"event_type": "survey_finished", "content": {"survey_id": "s-1"}}
            assert gateway.post("/webhooks/infermedica/clinic", survey).status == 202
            awaited(cluster.settings, enriched_topic("infermedica"), 1, enrich)
            for topic in raw:
                assert not set(in_clear(cluster.settings, topic)) - before, topic
            bundles = awaited(cluster.settings, BUNDLE, 3, worker)
            assert all(bundle["resourceType"] == "Bundle" for bundle in bundles)
            assert awaited(cluster.settings, canonical_topic("RiskAssessment"), 1, worker)  # of the enriched survey
            tables = {"FHIRLINE_TABLES_URL": f"duckdb:{tmp_path}/tables.duckdb"}
            for arguments in (("--once",), ("rebuild", "risk")):
                with command("tables", *arguments, environ=cluster.environ("tables", **tables)) as process:
                    assert process.wait() == 0, process.output
            for process in (worker, enrich):
                assert process.running, process.output
                assert process.stop() == 0, process.output
            for output in (worker.output, enrich.output, gateway.logged):
                assert "AUTHORIZATION" not in output.upper(), output


def test_the_delivery_works_with_exactly_its_privileges(cluster: Cluster, ehr_server: EhrServers) -> None:
    """A fill and the following of Bundles as ``deliver``, the comparison as ``operator``."""
    server = {"FHIRLINE_FHIR_SERVER": ehr_server().base}
    tenant = f"t-{uuid4().hex[:12]}"
    made = case_records(next(case for case in cases() if case.vendor == "altibbi"), cluster.settings, tenant)
    write(cluster.settings, made)
    with command("deliver", "--from", "topics", environ=cluster.environ("deliver", **server)) as fill:
        assert fill.wait(LIMIT) in (0, 1), fill.output  # 1: what other tests have written, this server may refuse
    with command("deliver", environ=cluster.environ("deliver", **server)) as deliver:
        deliver.wait_for("partitions assigned")
        assert deliver.stop() == 0, deliver.output
    with command("deliver", "verify", environ=cluster.environ("operator", **server)) as verify:
        assert verify.wait(LIMIT) in (0, 1), verify.output
    for output in (fill.output, deliver.output, verify.output):
        assert "AUTHORIZATION" not in output.upper(), output
        assert "lacks privileges" not in output, output


@pytest.mark.parametrize(
    ("process", "lacking"),
    [
        ("worker", Grant("Group", GROUP, "Read")),
        ("worker", Grant("Topic", BUNDLE, "Write")),
        ("enrich", Grant("Group", f"{GROUP}.enrich", "Read")),
        ("gateway", Grant("Topic", raw_topic("mediquo"), "Write")),
        ("gateway", Grant("Topic", KEYS, "Write")),
        ("worker", Grant("Topic", KEYS, "Read")),
        ("tables", Grant("Topic", canonical_topic("Patient"), "Read")),
        ("deliver", Grant("Topic", ERASED, "Read")),
    ],
    ids=lambda item: item if isinstance(item, str) else f"{item.operation} {item.name}",
)
def test_a_process_without_one_privilege_does_not_start_and_names_it(
    cluster: Cluster, process: str, lacking: Grant
) -> None:
    """Without the check, a worker that may not join its group would wait forever."""
    with cluster.without(process, lacking), command(process, environ=cluster.environ(process)) as refused:
        assert refused.wait() == 2, refused.output
    [line] = refused.said()
    assert f"user {process} lacks privileges" in line
    assert f"{lacking.operation} on {lacking.resource.lower()} {lacking.name};" in line


@pytest.mark.parametrize(
    "lost",
    [
        Grant("Topic", raw_topic("mediquo"), "Read"),
        Grant("Group", GROUP, "Read"),
        Grant("Topic", state_topic("mediquo"), "Write"),
    ],
    ids=lambda item: f"{item.operation} {item.name}",
)
def test_a_worker_that_loses_a_privilege_ends(cluster: Cluster, lost: Grant) -> None:
    """It does not continue with its other privileges."""
    with command("worker", environ=cluster.environ("worker")) as worker:
        worker.wait_for("partitions assigned")
        with cluster.without("worker", lost):
            produce(cluster.settings, events(50, seed=3))
            assert ended(worker) != 0, worker.output
    assert "AUTHORIZATION" in worker.output.upper()


def test_committed_offsets_need_a_privilege_which_the_error_names(cluster: Cluster) -> None:
    """A worker may notice only at its first batch."""
    lost, place = Grant("Group", GROUP, "Read"), TopicPartition(raw_topic("mediquo"), 0)
    settings = cluster.settings_of("worker")
    with cluster.without("worker", lost), pytest.raises(PositionsUnknown, match=f"Read on group {GROUP}"):
        committed_offsets(settings, [place])
    assert committed_offsets(settings, [place])[place].offset >= 0


def ended(process: Command) -> int | None:
    """Return the exit code, or 0 for a process that keeps running."""
    try:
        return process.wait()
    except subprocess.TimeoutExpired:
        return 0


def test_topics_apply_names_the_refused_operation(cluster: Cluster) -> None:
    with command("topics", "apply", environ=cluster.environ("stranger")) as refused:
        assert refused.wait() == 1, refused.output
    assert len(refused.said()) > 40
    assert all("create failed: TopicAuthorizationFailed" in line for line in refused.said())


MISTAKES = {
    "another CA": ({"FHIRLINE_SSL_CA_FILE": "other-ca.pem"}, "certificate verify failed"),
    "no CA": ({"FHIRLINE_SSL_CA_FILE": "missing.pem"}, "FHIRLINE_SSL_CA_FILE"),
    "wrong password": (
        {"FHIRLINE_SASL_PASSWORD_FILE": "wrong"},
        "invalid credentials with SASL mechanism",
    ),
    "password file missing": ({"FHIRLINE_SASL_PASSWORD_FILE": "nowhere"}, "FHIRLINE_SASL_PASSWORD_FILE: No such file"),
    "no TLS": ({"FHIRLINE_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "FHIRLINE_SECURITY_PROTOCOL"),
    "mechanism left out": ({"FHIRLINE_SASL_MECHANISM": ""}, "FHIRLINE_SASL_MECHANISM"),
    "another mechanism": ({"FHIRLINE_SASL_MECHANISM": "SCRAM-SHA-256"}, "FHIRLINE_SASL_MECHANISM"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_settings_is_one_line_and_exit_2(cluster: Cluster, mistake: str) -> None:
    """Every process reports it at once, although the clients would retry forever, and without a secret."""
    (cluster.folder / "wrong").write_text(WRONG)
    changed, told = MISTAKES[mistake]
    files = {name: str(cluster.folder / value) for name, value in changed.items() if name.endswith("_FILE")}
    starts = [["gateway", "--port", "0"], ["topics", "plan"]]
    if mistake == "wrong password":
        starts += [["worker"], ["enrich"], ["ingest", "altibbi", "/dev/null"]]
    running = [Command(*start, environ=cluster.environ(start[0], **{**changed, **files})) for start in starts]
    try:
        for process in running:
            assert process.wait() == 2, process.output
            [line] = process.said()
            assert told in line, process.output
            assert "Traceback" not in process.output
            for secret in (*PASSWORDS.values(), WRONG):
                assert secret not in process.output
    finally:
        for process in running:
            process.stop()


def test_all_three_clients_authenticate_by_oauthbearer(cluster: Cluster, tmp_path: Path) -> None:
    """kafka-python (topics), librdkafka (ingest, worker) and aiokafka (worker), with tokens of a local endpoint.

    test_oauth.py tests the renewal of tokens.
    """
    secret = tmp_path / "client-secret"
    secret.write_text("an-oauth-secret")
    secret.chmod(0o600)
    file = tmp_path / "events.ndjson"
    survey = orjson.loads((SAMPLES / "mediquo-report.json").read_bytes())
    file.write_bytes(orjson.dumps(survey))
    with TokenServer(dict.fromkeys(PROCESSES, "an-oauth-secret"), life=120.0) as tokens:

        def by_token(user: str) -> dict[str, str]:
            oauth = {
                "FHIRLINE_SASL_MECHANISM": "OAUTHBEARER",
                "FHIRLINE_SASL_OAUTH_TOKEN_URL": tokens.url,
                "FHIRLINE_SASL_OAUTH_CLIENT_ID": user,
                "FHIRLINE_SASL_OAUTH_CLIENT_SECRET_FILE": str(secret),
            }
            scram = ("FHIRLINE_SASL_USERNAME", "FHIRLINE_SASL_PASSWORD_FILE")
            return {name: value for name, value in cluster.environ(user, **oauth).items() if name not in scram}

        with command("topics", "plan", environ=by_token("topics")) as plan:
            assert plan.wait() == 0, plan.output
        with command("worker", environ=by_token("worker")) as worker:
            worker.wait_for("partitions assigned")
            before = written(cluster.settings, BUNDLE)
            with command("ingest", "mediquo", str(file), environ=by_token("ingest")) as ingest:
                assert ingest.wait() == 0, ingest.output
            awaited(cluster.settings, BUNDLE, before + 1, worker)
            assert worker.stop() == 0, worker.output
        for output in (plan.output, worker.output, ingest.output):
            assert "an-oauth-secret" not in output
        tokens.clients["worker"] = "another"
        with command("worker", environ=by_token("worker")) as refused:
            assert refused.wait() == 2, refused.output
        [line] = refused.said()
        assert "answered 401 invalid_client: check client id, secret or key, and scope" in line
