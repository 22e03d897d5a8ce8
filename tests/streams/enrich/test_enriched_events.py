"""``fhirline enrich`` on a thin event, against Infermedica's API (a local server) and a real broker."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import open_envelope
from fhirline.streams.demo.stack import Process
from fhirline.streams.enrich.survey import result_path
from fhirline.streams.kafka.headers import COPY_OF, KEY_ID
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.topics.declared import canonical_topic
from fhirline.topics.partition import partition_for
from tests.support.encryption import ENCRYPTION, sealed
from tests.support.enriching import (
    ENRICHED,
    LETTERS,
    PERSONAL,
    RECEIVED_AT,
    TENANT,
    Reading,
    enriching,
    environ,
    survey,
    survey_of,
    wait_until_committed,
)
from tests.support.infermedica_server import ASSESSMENT, CLIENT_SECRET, Fault, InfermedicaServer
from tests.support.kafka.brokers import RunningBroker
from tests.support.messages import header_of, text_headers
from tests.support.workload import produce


def test_a_thin_event_becomes_an_enriched_one(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """Both results, under the patient's key, with the thin event's time of receipt, and not in the log."""
    api.complete("s/1?x=../2", patient="pat|1")
    api.surveys["s/1?x=../2"] = "completed"
    produce(own_broker.settings(), [survey("s/1?x=../2")])
    with enriching(own_broker, api, vendors) as process:
        [message] = reading(ENRICHED).count(1, process)
        process.wait_for("survey enriched")
    body = orjson.loads(message.value() or b"")
    assert list(body) == ["event_type", "content", "summary", "evidence_assessment"]
    assert body["content"] == {"survey_id": "s/1?x=../2"}
    assert body["summary"] == api.summary("s/1?x=../2")
    assert body["evidence_assessment"] == ASSESSMENT
    assert message.key() == b"clinic|pat%7C1"
    sent = text_headers(message)
    received = Instant.parse(RECEIVED_AT)
    assert received is not None
    envelope = open_envelope("infermedica", TENANT, message.value() or b"", received)
    assert sent == {"received-at": RECEIVED_AT, "tenant": TENANT, "event-key": envelope.event_key}
    assert api.asked("/api/v2/surveys/s%2F1%3Fx%3D..%2F2/summary") == 1, "an id is one segment of the path"
    assert api.scopes == [f"{api.url}/survey.read {api.url}/evidence_assessment.read"]
    printed = "\n".join(process.printed)
    assert not any(token in printed for token in (*PERSONAL, "s/1", "pat|1", CLIENT_SECRET, *api.tokens))


@pytest.mark.long
def test_nothing_of_an_erased_patient_is_fetched_or_written(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """A survey's patient is known by the survey's id, if that was erased too, else by the results."""
    key = "0123456789abcdef" * 2
    settings = own_broker.settings(erasure_key=key, vendors_file=vendors)
    for erased in (("p-1",), ("survey", "s-1")):
        erasure = Erasure(settings, Compartment.of("infermedica", TENANT, *erased))
        assert erasure.erase(erasure.find(), settle=0).complete
        erasure.close()
    for survey_id, patient_id in (("s-1", "p-1"), ("s-2", "p-1"), ("s-3", "p-2")):
        api.complete(survey_id, patient=patient_id)
        produce(settings, [survey(survey_id)])
    with enriching(own_broker, api, vendors, FHIRLINE_ERASURE_KEY=key) as process:
        reading(ENRICHED).count(1, process)
        wait_until_committed(settings, 3, process)
    assert [survey_of(item) for item in held_in(settings, ENRICHED)] == ["s-3"]
    assert api.asked(result_path("s-1", "summary")) == 0
    assert len(process.lines("erased patient passed over")) == 2


@pytest.mark.long
def test_a_copy_of_a_thin_event_is_not_fetched_again(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path
) -> None:
    """`fhirline keys encrypt-existing` copies thin events whose surveys may no longer be there."""
    settings = own_broker.settings(encryption=ENCRYPTION, vendors_file=vendors)
    api.complete("s-1", "s-2")
    keys, (thin, later) = sealed(settings, [survey("s-1"), survey("s-2")])
    produce(settings, keys)
    (first,) = produce(settings, [thin])
    produce(settings, [replace(thin, headers=[*thin.headers, (COPY_OF, str(first.position).encode())]), later])
    with enriching(own_broker, api, vendors, FHIRLINE_ENCRYPTION=ENCRYPTION) as process:
        wait_until_committed(settings, 3, process)
    assert sorted(survey_of(item) for item in held_in(settings, ENRICHED)) == ["s-1", "s-2"]
    assert api.asked(result_path("s-1", "summary")) == 1
    assert held_in(settings, LETTERS) == []


def held_in(settings: Settings, topic: str) -> list[Message]:
    with Scanner(settings) as scanner:
        return list(scanner.read(dict.fromkeys(scanner.topic_partitions([topic]))))


def test_a_survey_without_patient_keeps_its_own_key(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    api.complete("s-1", patient=None)
    produce(own_broker.settings(), [survey("s-1")])
    with enriching(own_broker, api, vendors) as process:
        [message] = reading(ENRICHED).count(1, process)
    assert message.key() == b"clinic|survey/s-1"


SECRET = "QZV7LMD31XA8"
ODD = (
    (
        b'\xef\xbb\xbf{"patient": {"id": "p-1", "full_name": "J"}}',
        "byte-order-mark",
        {"patient": {"id": "p-1", "full_name": "J"}},
    ),
    (b'{"patient": {"id": "p-1"}, "risk": NaN}', "not-a-number", {"patient": {"id": "p-1"}, "risk": None}),
    (
        b'{"patient": {"id": 123456789012345678901234567890}}',
        "number-as-text",
        {"patient": {"id": "123456789012345678901234567890"}},
    ),
    (
        b'{"patient": {"id": "p-1"}, "additional_comment": "a \\ud83d b"}',
        "text-damaged",
        {"patient": {"id": "p-1"}, "additional_comment": "a \ufffd b"},
    ),
    (b'{"patient": {"id": "p-1", "id": "p-2"}}', "repeated-key", {"patient": {"id": "p-2", "id[repeated 1]": "p-1"}}),
    (b'{"patient": "{\\"id\\": \\"p-1\\"}"}', "json-in-text", {"patient": {"id": "p-1"}}),
    (
        f'{{"patient": {{"id": "p-1"}}, "note": "{{\\"pass_code\\": \\"{SECRET}\\"}}"}}'.encode(),
        "json-in-text",
        {"patient": {"id": "p-1"}, "note": {"pass_code": "[redacted]"}},
    ),
)
"""Answers as programs write them, each with its flag and with what is stored."""


def test_answers_are_read_as_tolerantly_as_webhooks(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    ids = [f"s-{number}" for number in range(len(ODD))]
    api.complete(*ids)
    for id_, (answer, _, _) in zip(ids, ODD, strict=True):
        api.fail(id_, "summary", Fault(200, body=answer))
    api.fail(ids[0], "evidence_assessment", Fault(200, body=b'{"triage": {"level": Infinity}}'))
    api.faults["/api/v2/oauth2/token"].append(Fault(503, body=b"\xef\xbb\xbf{}"))
    produce(own_broker.settings(), [survey(id_) for id_ in ids])
    with enriching(own_broker, api, vendors) as process:
        messages = reading(ENRICHED).count(len(ODD), process)
    found = {survey_of(message): message for message in messages}
    for id_, (_, flag, stored) in zip(ids, ODD, strict=True):
        flags = [flag, "not-a-number"] if id_ == ids[0] else [flag]
        assert header_of(found[id_], "body-flags") == ",".join(flags)
        assert orjson.loads(found[id_].value() or b"")["summary"] == stored
        assert api.asked(f"/api/v2/surveys/{id_}/summary") == 1
    assert SECRET.encode() not in b"".join(message.value() or b"" for message in messages)
    assert SECRET not in "".join(process.printed)


def test_from_thin_event_to_resources(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """Enrichment and worker make Patient and RiskAssessment from a survey's id, in the patient's partition."""
    settings = own_broker.settings()
    api.complete("s-1")
    produce(settings, [survey("s-1")])
    resources = reading(*(canonical_topic(item) for item in ("Patient", "RiskAssessment", "QuestionnaireResponse")))
    worker = Process(
        "worker",
        "worker",
        environment=environ(own_broker, api, vendors, FHIRLINE_SESSION_TIMEOUT="20"),
        echo=lambda _: None,
    )
    try:
        with enriching(own_broker, api, vendors) as process:
            messages = resources.count(3, process)
    finally:
        worker.stop()
    made = {found["resourceType"]: found for found in (orjson.loads(message.value() or b"") for message in messages)}
    assert made.keys() == {"Patient", "RiskAssessment", "QuestionnaireResponse"}
    assert made["Patient"]["name"] == [{"text": "Jon Smith"}]
    assert made["RiskAssessment"]["subject"] == {"reference": f"Patient/{made['Patient']['id']}"}
    assert made["RiskAssessment"]["prediction"][0]["probabilityDecimal"] == 34.37
    assert len({message.partition() for message in messages}) == 1
    assert all((header_of(message, "raw") or "").startswith(f"{ENRICHED}/") for message in messages)


def test_a_sealed_thin_event_becomes_a_sealed_enriched_one(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """Under a data key of the patient that only the answers name. A survey that fails becomes a sealed letter."""
    settings = own_broker.settings(encryption=ENCRYPTION)
    api.complete("s-1", patient="pat-4711")
    produce(settings, [survey("s-1"), survey("s-2")])
    with enriching(own_broker, api, vendors, FHIRLINE_ENCRYPTION=ENCRYPTION) as process:
        made = reading(ENRICHED, LETTERS).count(2, process)
        wait_until_committed(settings, 2, process)
    for message in made:
        assert header_of(message, KEY_ID)
        shown = (message.key() or b"") + (message.value() or b"")
        assert not any(text.encode() in shown for text in (*PERSONAL, "pat-4711", "s-1", "s-2"))
    with Scanner(settings) as scanner:
        places = dict.fromkeys(scanner.topic_partitions([ENRICHED, LETTERS]))
        opened = {message.topic(): message for message in scanner.read(places)}
    assert opened[ENRICHED].key() == f"{TENANT}|pat-4711".encode()
    assert survey_of(opened[ENRICHED]) == "s-1"
    assert opened[ENRICHED].partition() == partition_for(f"{TENANT}|pat-4711", settings.partitions)
    assert survey_of(opened[LETTERS]) == "s-2"
