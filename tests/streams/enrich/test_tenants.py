"""Access tokens of Infermedica's API, and what each tenant has of its own."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import yaml

from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import raw_topic
from tests.support.enriching import (
    ENRICHED,
    LETTERS,
    RECEIVED_AT,
    TENANT,
    Reading,
    enriching,
    survey,
    survey_of,
    wait_until_committed,
)
from tests.support.infermedica_server import ASSESSMENT, CLIENT_ID, CLIENT_SECRET, InfermedicaServer
from tests.support.kafka.brokers import RunningBroker
from tests.support.messages import header_of
from tests.support.workload import produce


def test_a_token_is_used_until_it_expires_and_renewed_once_refused(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    settings = own_broker.settings()
    api.complete("a", "b", "c", "d")
    with enriching(own_broker, api, vendors) as process:
        enriched = reading(ENRICHED)
        produce(settings, [survey("a"), survey("b")])
        enriched.count(2, process)
        assert len(api.tokens) == 1
        api.forget_tokens()
        produce(settings, [survey("c"), survey("d")])
        enriched.count(4, process)
        assert len(api.tokens) == 2, "one renewal for all refused calls"
    assert process.exit_code == 0


@pytest.mark.long
def test_a_token_is_renewed_before_it_expires(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    api.expires_in = 1
    api.surveys["s-1"] = "pending"
    produce(own_broker.settings(), [survey("s-1")])
    with enriching(own_broker, api, vendors) as process:
        api.wait_until_asked("/api/v2/oauth2/token", 3)
        api.complete("s-1")
        reading(ENRICHED).count(1, process)
    assert not any(line["event"] == "dead letter" for line in process.lines("dead letter"))


def test_a_tenant_without_enrichment_is_skipped(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """So are events of other types, enriched events and unreadable ones. All are committed."""
    settings = own_broker.settings()
    api.complete("other", "mine", "full")
    received = Instant.parse(RECEIVED_AT)
    assert received is not None
    thin = {"event_type": "survey_finished", "content": {"survey_id": "full"}}
    bodies = [
        {**thin, "event_type": "survey_created"},
        {**thin, "summary": api.summary("full"), "evidence_assessment": ASSESSMENT},
        {"event_type": "survey_finished"},
    ]
    foreign = ProducerRecord(
        raw_topic("infermedica"), b"k", b"not json", headers=[("tenant", TENANT.encode())], timestamp_ms=1
    )
    records = [
        survey("other", "acme"),
        *(raw_record("infermedica", TENANT, orjson.dumps(body), received, None, 64) for body in bodies),
        foreign,
        survey("mine"),
    ]
    produce(settings, records)
    with enriching(own_broker, api, vendors) as process:
        assert [survey_of(item) for item in reading(ENRICHED, LETTERS).count(1, process)] == ["mine"]
        wait_until_committed(settings, len(records), process)
    assert {path for _, path, _ in api.requests if "/surveys/" in path} == {
        "/api/v2/surveys/mine/summary",
        "/api/v2/surveys/mine/evidence_assessment",
    }


def test_a_tenant_may_have_its_own_instance(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(f"{CLIENT_SECRET}\n", "utf-8")
    with InfermedicaServer() as own:
        content = yaml.safe_load(vendors.read_text("utf-8"))
        instance = {"url": own.url, "client_id": CLIENT_ID, "client_secret": "TEST_OWN_SECRET"}
        content["vendors"]["infermedica"]["tenants"]["own"] = {"enrichment": True, "instance": instance}
        vendors.write_text(yaml.safe_dump(content), "utf-8")
        api.complete("s-1")
        own.complete("s-2")
        produce(own_broker.settings(), [survey("s-1"), survey("s-2", "own")])
        more = {"TEST_OWN_SECRET_FILE": str(tmp_path / "secret")}
        with enriching(own_broker, api, vendors, **more) as process:
            messages = reading(ENRICHED, LETTERS).count(2, process)
        assert {survey_of(message): header_of(message, "tenant") for message in messages} == {
            "s-1": TENANT,
            "s-2": "own",
        }
        assert own.asked("/api/v2/surveys/s-1/summary") == api.asked("/api/v2/surveys/s-2/summary") == 0
