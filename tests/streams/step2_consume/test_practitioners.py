"""Practitioners: one worker publishes each, over what the events of all raw partitions contribute."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.practitioner_fold import ContributionKey
from fhirline.streams.kafka.headers import EVENT_KEY, OCCURRED_AT, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, headers_of
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step2_consume.faust.offset_gaps import Committed
from fhirline.streams.step2_consume.fencing import Fence
from fhirline.streams.step2_consume.metrics import PRACTITIONER_REFUSED, WorkerMetrics
from fhirline.streams.step2_consume.practitioners import PractitionerProcessor
from fhirline.streams.step2_consume.unfinished import ATTEMPTS, Mark, Unfinished
from fhirline.streams.step3_restore.contribution_cache import PartitionContributions, subject_of
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import CONTRIBUTIONS, canonical_topic
from fhirline.topics.partition import partition_for
from tests.support.kafka.brokers import RunningBroker, also_on_apache
from tests.support.running_worker import running, wait_until_as
from tests.support.workload import Store, produce, undisturbed

PRACTITIONER = canonical_topic("Practitioner")
PROVIDER = {"id": "12", "name": "Sam Lee"}
SENT: list[dict[str, Any]] = [
    {"email": "sam@example.com"},
    {"phone": "+1556"},
    {"email": "s.lee@example.com"},
    {"mobileNumber": "+1555", "name": "Samuel Lee"},
    {},
]
"""What each event knows of one provider besides id and name, in the order of the events' times."""


def booking(at: int) -> ProducerRecord:
    """Make an event of one of six patients. Each event's time is one second after that of the event before."""
    body = {
        "eventName": "BookAppointment",
        "patientId": f"p{at % 6}",
        "appointmentId": f"a{at}",
        "status": "BOOKED",
        "timestamp": 1_704_063_600 + at,
        "providers": [{**PROVIDER, **SENT[at % len(SENT)]}],
    }
    received = Instant.parse("2024-06-01T12:00:00Z")
    assert received is not None
    return raw_record("azodha", "acme", orjson.dumps(body), received, None, 64)


def history(settings: Settings, topic: str) -> list[ConsumerRecord]:
    """Return all records of a topic that has one key."""
    with Scanner(settings) as scanner:
        read = scanner.read(dict.fromkeys(scanner.topic_partitions([topic])))
        return [
            ProducerRecord(topic, bytes(item.key() or b""), item.value(), headers=headers_of(item)).at(
                item.partition() or 0, item.offset() or 0
            )
            for item in read
        ]


@pytest.mark.long
@also_on_apache
def test_one_professional_of_many_patients_never_flaps(own_broker: RunningBroker) -> None:
    """Events of several partitions, shuffled and repeated, to a worker that is killed and started again."""
    settings = own_broker.settings(session_timeout=6)
    made = [booking(at) for at in range(40)] * 2
    random.Random(5).shuffle(made)
    raws = produce(settings, made)
    assert len({raw.partition for raw in raws}) > 1, "the professional's events are in several raw partitions"
    expected = undisturbed(settings, raws)
    store = Store(settings)
    with running(settings, FHIRLINE_BATCH_SIZE="5") as worker:
        while not any(name.startswith(PRACTITIONER) for name in store.values):
            assert worker.running, worker.report("has ended")
            store.read()
        worker.kill()
    with running(settings, FHIRLINE_BATCH_SIZE="5") as worker:
        wait_until_as(expected, store, worker)
    store.close()

    records = history(settings, PRACTITIONER)
    assert len({(record.key, record.partition) for record in records}) == 1, "one key, in one partition"
    known: set[str] = set()
    for record in records:
        fields = {point["system"] for point in orjson.loads(record.value or b"{}").get("telecom", ())}
        assert known <= fields, "what was known once is in every later record"
        known = fields
    times = [header(record.headers, OCCURRED_AT) or "" for record in records]
    assert times == sorted(times), "no record has a smaller version than an earlier one"
    last = orjson.loads(records[-1].value or b"{}")
    assert [(point["system"], point["value"]) for point in last["telecom"]] == [
        ("email", "s.lee@example.com"),
        ("phone", "+1555"),
    ]
    assert last["name"] == [{"text": "Sam Lee"}]


@pytest.mark.long
@also_on_apache
def test_no_contribution_names_a_patient(own_broker: RunningBroker) -> None:
    settings = own_broker.settings(session_timeout=6)
    raws = produce(settings, [booking(at) for at in range(12)])
    store = Store(settings)
    with running(settings) as worker:
        wait_until_as(undisturbed(settings, raws), store, worker)
    store.close()
    contributions = history(settings, CONTRIBUTIONS)
    assert {str(raw.topic_partition) for raw in raws} == {
        ContributionKey.parse(record.key or b"").source for record in contributions
    }
    for record in contributions:
        for raw in raws:
            assert (raw.key or b"-") not in (record.key or b"") + (record.value or b"")
        assert header(record.headers, EVENT_KEY)


IDENTIFIER = {"system": "https://fhirline.example.org/sid/azodha/acme/practitioner", "value": "12"}


def contribution(vendor: str, subject: str, **elements: Any) -> ProducerRecord:
    """Make the contribution of one raw partition to a Practitioner: its identifier, and other elements."""
    fields = {
        "identifier s|12": {"identifier": [IDENTIFIER]},
        **{f"field {name}": {name: elements[name]} for name in elements},
    }
    value = {
        name: {"s": [1, "", "k", "2024-06-01T12:00:00Z"], "v": {"elements": field, "flags": []}}
        for name, field in fields.items()
    }
    key = ContributionKey(vendor, "acme", subject, "raw.azodha/0").text
    return ProducerRecord(
        CONTRIBUTIONS, key, orjson.dumps(value), partition_for(subject, 6), [("vendor", vendor.encode())]
    )


def test_each_practitioner_that_is_refused_is_counted_by_its_reason_and_costs_no_other(
    own_broker: RunningBroker,
) -> None:
    settings = own_broker.settings(session_timeout=60)
    made = {
        "invalid": contribution("azodha", "Practitioner/1", gender="no code of FHIR"),
        "defect": contribution("of-no-configuration", "Practitioner/2"),
        "too-large": contribution("azodha", "Practitioner/3", name=[{"text": "x" * 70_000}]),
        "": contribution("azodha", "Practitioner/4", name=[{"text": "Sam Lee"}]),
        "worker-ended": contribution("azodha", "Practitioner/5", name=[{"text": "Sam Lee"}]),
    }
    records = produce(settings, made.values())
    deadly = next(record for record in records if record.key == made["worker-ended"].key)
    registry = CollectorRegistry()
    small = settings.model_copy(update={"message_max_bytes": 65_536})

    async def committed(_: object) -> None:
        """Take the commits of marks: there is no group."""

    async def process(parts: Sequence[ConsumerRecord], *, attempts: int) -> None:
        mark = Mark(attempts).text
        unfinished = Unfinished(lambda _: Committed(deadly.offset, mark) if attempts else None, committed)
        for part in unfinished.parts(parts):
            await processor.process(part, unfinished)

    processor = PractitionerProcessor(
        settings, build_normalizer(settings), RecordPublisher(small), Fence(60), WorkerMetrics(registry)
    )
    processor.state.assigned(range(settings.partitions))
    with capture_logs() as logged:
        asyncio.run(process([record for record in records if record is not deadly], attempts=0))
        asyncio.run(process([deadly], attempts=ATTEMPTS))
    assert [header(record.headers, "vendor") for record in history(settings, PRACTITIONER)] == ["azodha"]
    refused = {line["reason"]: line for line in logged if line["event"] == "practitioner refused"}
    assert refused.keys() == set(PRACTITIONER_REFUSED)
    for reason in PRACTITIONER_REFUSED:
        vendor = "other" if reason == "defect" else "azodha"
        labels = {"vendor": vendor, "reason": reason}
        assert registry.get_sample_value("fhirline_practitioners_refused_total", labels) == 1, reason
        assert ContributionKey.parse(made[reason].key).subject == refused[reason]["key"]
    assert refused["defect"]["error"] == "KeyError"


def test_a_contribution_of_another_form_is_passed_over() -> None:
    """The topic is internal, but a record that somebody wrote there must not end a worker."""
    held = PartitionContributions()
    key = ContributionKey("azodha", "acme", "Practitioner/1", "raw.azodha/0").text
    for wrong_key, wrong_value in (
        (b"", b"{}"),
        (b"\xff", b"{}"),
        (b'["azodha|acme","Patient/1","raw.azodha/0"]', b"{}"),
        (key, b"{}"),
        (key, b"[]"),
        (key, b'{"name": 1}'),
        (key, b"no JSON"),
    ):
        held.read(wrong_key, wrong_value, [])
    assert list(held) == []
    assert (held.entries, held.size) == (0, 0)
    assert subject_of(None) is None


def test_the_contribution_read_last_replaces_and_a_tombstone_removes() -> None:
    held = PartitionContributions()
    key = ContributionKey("azodha", "acme", "Practitioner/1", "raw.azodha/0")
    for name in ("field name", "field photo"):
        held.read(key.text, orjson.dumps({name: {"s": [1, "", "k", "t"], "v": None}}), [("raw", b"raw.azodha/0/1")])
    [contribution] = held("Practitioner/1")
    assert contribution.entries.keys() == {"field photo"}
    assert contribution.headers == [("raw", b"raw.azodha/0/1")]
    assert held.entries == 1
    held.read(key.text, None, [])
    assert list(held) == []
    assert (held.entries, held.size) == (0, 0)
