"""From every resource to its raw records and from every event to its resources, on a real broker."""

import json
import os
import subprocess
from uuid import uuid4

import orjson
import pytest
from confluent_kafka import Producer

from fhirline.config.errors import ConfigurationError
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.streams.cli.trace import _kind
from fhirline.streams.kafka import headers, log_scanner
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.dead_letters.cases import Mark, Status
from fhirline.streams.operate.trace.find import Tracer
from fhirline.streams.operate.trace.view import event_document, event_lines, resource_document, resource_lines
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.map_event import MappedEvent
from fhirline.topics.declared import DEAD_LETTER_STATUS, raw_topic
from tests.support import cli
from tests.support.erasure import RECEIVED_AT
from tests.support.kafka.brokers import RunningBroker
from tests.support.kafka.producing import patient_producer
from tests.support.load import Load, load_on
from tests.support.waiting import LIMIT
from tests.support.workload import undisturbed


@pytest.fixture(scope="module")
def load(embedded: RunningBroker) -> Load:
    """A tenant's events of all vendors, mapped and delivered."""
    made = load_on(embedded)
    made.send(made.events(60, seed=21))
    return made


SHARED = ("Coverage", "Device", "Organization", "Patient", "Practitioner")
"""Types whose resources several events contribute to, or none."""


def outputs(load: Load) -> dict[str, tuple[ConsumerRecord, MappedEvent]]:
    """Return each event's last raw record, and what followed from it, by event key."""
    seen: dict[str, tuple[ConsumerRecord, MappedEvent]] = {}
    undisturbed(load.settings, load.raws, lambda raw, made: seen.update({event_of(raw): (raw, made)}))
    return seen


def event_of(raw: ConsumerRecord) -> str:
    found = header(raw.headers, headers.EVENT_KEY)
    assert found
    return found


def fhirline(load: Load, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "FHIRLINE_BOOTSTRAP": load.settings.bootstrap, "FHIRLINE_LOG_FORMAT": "json"}
    return cli.run("trace", *arguments, env=env)


def test_a_resource_leads_to_every_event_that_made_it(load: Load) -> None:
    patient = load.patient("altibbi")
    of_patient = {
        event
        for event, (raw, followed) in outputs(load).items()
        if raw.key == patient.raw_key.encode() and followed.normalized and followed.normalized.outputs
    }
    name = next(name for name in load.made_of(patient) if " Patient/" in name).partition(" ")[2]
    with Scanner(load.settings) as scanner:
        tracer = Tracer(load.settings, scanner)
        found = tracer.resource(name)
        assert {provenance.headers["event-key"] for provenance in found.provenances} == of_patient
        assert {event_of(raw) for raw in found.raws.values() if raw} == of_patient
        latest = tracer.latest(found)
    assert latest
    assert str(latest.position) == found.history[-1].headers["raw"]
    assert all(item.key == name for item in found.history)


def test_an_event_leads_to_all_that_it_made(load: Load, embedded: RunningBroker) -> None:
    """Another tenant was sent the same bytes, and its event has the same key."""
    tenants = (load_on(embedded), load_on(embedded))  # nothing is known there, so that all that is made goes out
    examples = {raw.vendor: raw for raw, made in outputs(load).values() if made.normalized and made.normalized.bundle}
    with Scanner(load.settings) as scanner:
        tracer = Tracer(load.settings, scanner)
        for vendor in ("azodha", "mediquo"):
            body = orjson.dumps({**orjson.loads(examples[vendor].value or b""), "only_here": uuid4().hex})
            route = header(examples[vendor].headers, headers.EVENT_TYPE)
            own, other = (
                tenant.send([raw_record(vendor, tenant.tenant, body, RECEIVED_AT, route, 64)])[0] for tenant in tenants
            )
            followed = [outputs(tenant)[event_of(own)][1].normalized for tenant in tenants]
            made = {output.key for item in followed if item for output in item.outputs}
            assert sum(key.startswith("Provenance/") for key in made) == 2
            found = tracer.event(event_of(own))
            assert {*found.raws} == {str(own.position), str(other.position)}
            assert {*found.made} == {key for key in made if not key.startswith("Provenance/")}
            assert [message.position.topic for message in found.messages].count("fhir.r4.bundle") == 2
            explained = [
                json.loads(fhirline(load, str(raw.position), "--explain", "--json").stdout) for raw in (own, other)
            ]
            for item, normalized in zip(explained, followed, strict=True):
                assert normalized
                assert {of["resource"] for of in item["explained"]} == {output.key for output in normalized.outputs}
            at = tracer.raw(str(own.position))
            assert at
            assert event_document(tracer.event(event_of(own), at, [at.vendor])) == event_document(found)


def test_an_event_without_resources_leads_to_its_dead_letter(load: Load) -> None:
    body = {"type": "status_update", "user_id": "", "id": 1}
    (raw,) = load.send([raw_record("altibbi", load.tenant, orjson.dumps(body), RECEIVED_AT, None, 64)])
    with Scanner(load.settings) as scanner:
        found = Tracer(load.settings, scanner).event(event_of(raw))
    assert str(raw.position) in found.raws
    assert [letter.headers["error-code"] for letter, _ in found.letters] == ["resource-refused"]


def test_a_dead_letter_has_the_status_of_its_case(load: Load) -> None:
    """The status topic's key is the position of the raw record that was mapped first."""
    body = {"type": "status_update", "user_id": "", "id": 2}
    (raw,) = load.send([raw_record("altibbi", load.tenant, orjson.dumps(body), RECEIVED_AT, None, 64)])

    def statuses() -> list[str]:
        with Scanner(load.settings) as scanner:
            found = Tracer(load.settings, scanner).event(event_of(raw))
        return [line.rpartition(": ")[2] for line in event_lines(found) if "status of" in line]

    assert statuses() == ["open"]
    with Board(load.settings, ["altibbi"]) as board:
        (case,) = (case for case in board.read() if case.id == str(raw.position))
    mark = Mark(Status.DONE, 2, None, case.last.position, "key", "map-1")
    producer = patient_producer(load.settings)
    producer.produce(DEAD_LETTER_STATUS, mark.encode(), case.id)
    assert producer.flush(20) == 0
    assert statuses() == ["done"]


def test_lines_and_json_have_no_payload_and_no_patient(load: Load) -> None:
    patient = load.patient("mediquo")
    made = sorted(name.partition(" ")[2] for name in load.made_of(patient))
    name = next(item for item in made if item.partition("/")[0] not in SHARED)
    with Scanner(load.settings) as scanner:
        tracer = Tracer(load.settings, scanner)
        resource = tracer.resource(name)
        event = tracer.event(resource.history[-1].headers["event-key"])
    shown = [*resource_lines(resource), *event_lines(event)]
    shown += [json.dumps(resource_document(resource)), json.dumps(event_document(event))]
    assert not any(patient.key in item for item in shown)


def test_a_payload_is_revealed_only_with_a_reason_which_is_audited(load: Load) -> None:
    raw = next(raw for raw in load.raws if raw.vendor == "mediquo")
    without = fhirline(load, str(raw.position), "--reveal")
    assert (without.returncode, without.stdout) == (2, "")
    assert "--reason" in without.stderr
    told = fhirline(
        load, str(raw.position), "--reveal", "--reason", "ticket 7", "--as", "a clerk", "--json", "--explain"
    )
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert json.loads(document["payloads"][str(raw.position)]) == orjson.loads(raw.value or b"")
    audit = next(json.loads(line) for line in told.stderr.splitlines() if "raw event revealed" in line)
    assert (audit["reason"], audit["raw"], audit["as"]) == ("ticket 7", str(raw.position), "a clerk")
    assert {explained["resource"] for explained in document["explained"]} >= set(document["made"])
    naming = build_normalizer(load.settings).naming
    nobody = naming.id("mediquo", load.tenant, "Patient", "patient", uuid4().hex)
    missing = fhirline(load, f"Patient/{nobody}")
    assert (missing.returncode, missing.stdout) == (1, "")


def test_no_payload_steers_the_terminal(load: Load) -> None:
    """A raw topic contains records of other producers, which no gateway has checked."""
    places: list[str] = []
    producer = Producer({"bootstrap.servers": load.settings.bootstrap})
    producer.produce(
        raw_topic("mediquo"),
        '{"type": "news", "note": "\x9b31m\x7f"}'.encode(),  # JSON need not escape U+009B, which terminals obey
        headers=[("received-at", b"\x1b[31m")],
        on_delivery=lambda _, sent: places.append(f"{sent.topic()}/{sent.partition()}/{sent.offset()}"),
    )
    producer.flush(LIMIT)
    told, document = (fhirline(load, places[0], "--reveal", "--reason", "ticket 8", *how) for how in ((), ("--json",)))
    assert (told.returncode, document.returncode) == (0, 0), told.stderr + document.stderr
    assert "\\x9b31m" in told.stdout
    assert "received-at=\\x1b[31m" in told.stdout
    assert "\x9b31m\x7f" in json.loads(document.stdout)["payloads"][places[0]]
    for shown in (told.stdout, document.stdout):
        assert all(item.isprintable() for item in shown.replace("\n", ""))


@pytest.mark.parametrize("what", ["Nonsense/1", "x", "raw.nobody/0/0", "0" * 63])
def test_an_argument_of_another_form_is_refused(what: str) -> None:
    with pytest.raises(ConfigurationError, match="neither 64 hex digits"):
        _kind(what, [])


def test_a_position_beyond_the_end_is_answered_at_once_with_the_last_offset(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded broker lets a reader wait there, and the reading then fails as if no broker answered."""
    monkeypatch.setattr(log_scanner, "SILENCE_SECONDS", LIMIT)
    last = max(raw.position for raw in load.raws if raw.topic == raw_topic("altibbi"))
    place = last.topic_partition
    with Scanner(load.settings) as scanner:
        end = scanner.end(*place)
        assert end > last.offset
        for offset in (end, end + 1, 999_999):
            beyond = RecordPosition(*place, offset)
            assert scanner.at(beyond) is None
            tracer = Tracer(load.settings, scanner)
            assert tracer.raw(str(beyond)) is None
            assert tracer.missing(str(beyond)) == f"{place}: the last offset is {end - 1}"
        assert scanner.at(RecordPosition(*place, end - 1))
    beyond = RecordPosition(*place, end + 5)
    failed = fhirline(load, str(beyond))
    assert failed.returncode == 1
    assert f"there is no raw record {beyond}: {place}: the last offset is {end - 1}" in failed.stderr
    failed = fhirline(load, f"{place.topic}/999/0")
    assert failed.returncode == 1
    assert "the topic has no such partition" in failed.stderr
