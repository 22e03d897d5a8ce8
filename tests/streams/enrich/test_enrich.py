"""``fhirline enrich`` as a process, against Infermedica's API (a local server) and a real broker."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.body import ReadBody
from fhirline.mappers.pipeline.envelope import open_envelope
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.demo.stack import Process
from fhirline.streams.enrich.survey import NotEnriched, RetryPolicy, enriched_record, result_path, thin_survey
from fhirline.streams.http.retry_after import seconds_until
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.group_reader import Assignment
from fhirline.streams.kafka.headers import COPY_OF, KEY_ID
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.topics.declared import canonical_topic, dead_letter_topic, enriched_topic, raw_topic
from fhirline.topics.partition import partition_for
from tests.support.encryption import ENCRYPTION, sealed
from tests.support.infermedica_server import ASSESSMENT, CLIENT_ID, CLIENT_SECRET, Fault, InfermedicaServer
from tests.support.kafka.brokers import RunningBroker, also_on_apache, create_topics
from tests.support.messages import header_of, text_headers
from tests.support.paths import CONFIG
from tests.support.processes import ForkedProcess
from tests.support.receiving import environment
from tests.support.waiting import LIMIT, wait_until
from tests.support.workload import produce

RECEIVED_AT = "2024-06-01T12:00:00Z"
ENRICHED = enriched_topic("infermedica")
LETTERS = dead_letter_topic("infermedica")
TENANT = "clinic"
PERSONAL = ("Jon Smith", "user@example.com", "1231231234", "pollen", "Cholecystolithiasis")
"""A person's data in the answers, which must not be logged."""


@pytest.fixture
def api() -> Iterator[InfermedicaServer]:
    with InfermedicaServer() as server:
        yield server


@pytest.fixture
def vendors(tmp_path: Path) -> Path:
    """The packaged vendors, and a tenant whose events are enriched."""
    content = yaml.safe_load((CONFIG / "vendors.yaml").read_text("utf-8"))
    content["vendors"]["infermedica"]["tenants"][TENANT] = {"enrichment": True}
    path = tmp_path / "vendors.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def environ(broker: RunningBroker, api: InfermedicaServer, vendors: Path, **more: str) -> dict[str, str]:
    own = {
        "FHIRLINE_VENDORS_FILE": str(vendors),
        "FHIRLINE_INFERMEDICA_URL": api.url,
        "FHIRLINE_INFERMEDICA_CLIENT_ID": CLIENT_ID,
        "FHIRLINE_INFERMEDICA_CLIENT_SECRET": CLIENT_SECRET,
        "FHIRLINE_SESSION_TIMEOUT": "6",
        "FHIRLINE_ENRICH_RETRY_FIRST": "0.05",
        "FHIRLINE_ENRICH_RETRY_LONGEST": "0.3",
    }
    return environment(broker.bootstrap, **{**own, **more})


@contextmanager
def enriching(broker: RunningBroker, api: InfermedicaServer, vendors: Path, **more: str) -> Iterator["Logged"]:
    process = Logged(environ(broker, api, vendors, **more))
    try:
        yield process
    finally:
        process.stop()


class Logged(ForkedProcess):
    """The process and its output."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.printed: list[str] = []
        super().__init__("enrich", environment=environ, echo=self.printed.append)

    def lines(self, event: str) -> list[dict[str, Any]]:
        parsed = [orjson.loads(line.partition(": ")[2]) for line in self.printed if ": {" in line]
        return [item for item in parsed if item["event"] == event]


def survey(survey_id: str, tenant: str = TENANT) -> ProducerRecord:
    received = Instant.parse(RECEIVED_AT)
    assert received is not None
    body = {"event_type": "survey_finished", "content": {"survey_id": survey_id}}
    return raw_record("infermedica", tenant, orjson.dumps(body), received, None, 64)


class Reading:
    """Reads topics from their beginning."""

    def __init__(self, settings: Settings, *topics: str) -> None:
        self._consumer = Consumer(librdkafka(settings, **{"group.id": "test-reader", "enable.auto.commit": False}))
        places = [
            TopicPartition(topic, number, OFFSET_BEGINNING) for topic in topics for number in range(settings.partitions)
        ]
        self._consumer.assign(places)
        self.messages: list[Message] = []

    def until(self, enough: Callable[[list[Message]], bool], process: Process) -> list[Message]:
        end = time.monotonic() + LIMIT
        while not enough(self.messages):
            assert time.monotonic() < end, process.report(f"made {len(self.messages)} records and is stuck")
            assert process.running, process.report("has ended")
            self.messages += [item for item in self._consumer.consume(500, 0.1) if item.error() is None]
        return self.messages

    def count(self, number: int, process: Process) -> list[Message]:
        return self.until(lambda messages: len(messages) >= number, process)

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def reading(own_broker: RunningBroker) -> Iterator[Callable[..., Reading]]:
    made: list[Reading] = []

    def read(*topics: str) -> Reading:
        made.append(Reading(own_broker.settings(), *topics))
        return made[-1]

    yield read
    for reading in made:
        reading.close()


def survey_of(message: Message) -> str:
    return str(orjson.loads(message.value() or b"{}")["content"]["survey_id"])


def committed(settings: Settings, topic: str) -> dict[int, int]:
    """Return the group's committed offsets above 0."""
    consumer = Consumer(librdkafka(settings, **{"group.id": f"{settings.group}.enrich"}))
    try:
        places = consumer.committed([TopicPartition(topic, item) for item in range(settings.partitions)], timeout=LIMIT)
        return {place.partition: place.offset for place in places if place.offset > 0}
    finally:
        consumer.close()


def wait_until_committed(settings: Settings, records: int, process: Process) -> None:
    """Wait until the group has committed so many raw records, enriched or not."""
    topic = raw_topic("infermedica")
    wait_until(lambda: sum(committed(settings, topic).values()) >= records, lambda: process.report("does not commit"))


# One survey


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


@pytest.mark.long
def test_temporary_failures_are_retried(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """401 with a new token too, 409, 429 with Retry-After, 503, a hung request and an answer that is no JSON."""
    api.complete("s-1")
    faults = (
        *(Fault(401), Fault(401)),  # the second with a new token
        Fault(409),
        Fault(429, {"Retry-After": "1"}),
        Fault(503),
        Fault(hang=True),
        Fault(200, body=b"<html>"),
        Fault(200, body=b"[]"),
    )
    api.fail("s-1", "summary", *faults)
    api.fail("s-1", "evidence_assessment", Fault(409))
    produce(own_broker.settings(), [survey("s-1")])
    started = time.monotonic()
    with enriching(own_broker, api, vendors, FHIRLINE_INFERMEDICA_TIMEOUT="5") as process:
        messages = reading(ENRICHED).count(1, process)
    assert [survey_of(message) for message in messages] == ["s-1"]
    assert time.monotonic() - started >= 1, "Retry-After is waited for"
    assert api.asked("/api/v2/surveys/s-1/summary") == len(faults) + 1
    assert api.asked("/api/v2/surveys/s-1/evidence_assessment") == 2, "a fetched result is not fetched again"


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


# What cannot be fetched


@pytest.mark.parametrize(
    ("fault", "problem", "asked"),
    [
        (None, "http-404", 1),
        pytest.param(Fault(403), "http-403", 1, marks=pytest.mark.long),
        pytest.param(Fault(302, {"Location": "http://127.0.0.1:9/"}), "http-302", 1, marks=pytest.mark.long),
        pytest.param(Fault(429, {"Retry-After": "86400"}), "http-429", 1, marks=pytest.mark.long),
        (Fault(200, body=b'{"a":' * 300 + b"1" + b"}" * 300), "too-deep", 1),
    ],
)
def test_permanent_failures_are_dead_letters(
    own_broker: RunningBroker,
    api: InfermedicaServer,
    vendors: Path,
    reading: Callable[..., Reading],
    fault: Fault | None,
    problem: str,
    asked: int,
) -> None:
    if fault:
        api.complete("s-1")
        api.fail("s-1", "evidence_assessment", fault)
    result = "evidence_assessment" if fault else "summary"
    [raw] = produce(own_broker.settings(), [survey("s-1")])
    with enriching(own_broker, api, vendors) as process:
        [letter] = reading(LETTERS, ENRICHED).count(1, process)
    assert letter.topic() == LETTERS
    assert (letter.key(), letter.value()) == (raw.key, raw.value), "redriving it is producing it again"
    names = ("error-code", "error-path", "raw", "tenant", "received-at", "attempt", "vendor")
    assert [header_of(letter, name) for name in names] == [
        "enrichment-failed",
        f"/{result}",
        str(raw.position),
        TENANT,
        RECEIVED_AT,
        "1",
        "infermedica",
    ]
    [told] = orjson.loads(header_of(letter, "errors") or "")
    assert told["problem"] == problem
    assert api.asked(f"/api/v2/surveys/s-1/{result}") == asked


@pytest.mark.long
def test_a_call_that_stays_refused_is_retried_until_its_time_is_up(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    api.complete("s-1")
    api.fail("s-1", "summary", *[Fault(401)] * 1_000)
    produce(own_broker.settings(), [survey("s-1")])
    with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_GIVE_UP_AFTER="2") as process:
        [letter] = reading(LETTERS, ENRICHED).count(1, process)
    assert (letter.topic(), header_of(letter, "error-code")) == (LETTERS, "enrichment-failed")
    [told] = orjson.loads(header_of(letter, "errors") or "")
    assert told["problem"] == "http-401"
    assert api.asked("/api/v2/surveys/s-1/summary") >= 6, "two requests in each of at least three attempts"
    assert process.exit_code == 0


@pytest.mark.long
def test_a_server_that_stays_down_ends_in_a_dead_letter(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """5xx until the time is up: a dead letter and a committed offset. Another survey is enriched meanwhile. After a
    redrive the survey is fetched."""
    settings = own_broker.settings()
    api.complete("down", "up")
    api.fail("down", "summary", *[Fault(500)] * 1_000)
    written = produce(settings, [survey("down"), survey("up")])
    [raw] = [record for record in written if b"down" in (record.value or b"")]
    with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_GIVE_UP_AFTER="5") as process:
        letters, enriched = reading(LETTERS), reading(ENRICHED)
        [letter] = letters.count(1, process)
        assert header_of(letter, "error-code") == "enrichment-failed"
        assert letter.value() == raw.value
        enriched.count(1, process)
        asked = api.asked("/api/v2/surveys/down/summary")
        assert 3 <= asked <= 60, "between 0.05 s and 0.3 s apart"
        api.faults.clear()
        produce(settings, [survey("down")])
        assert sorted(map(survey_of, enriched.count(2, process))) == ["down", "up"]
    assert process.exit_code == 0
    assert sum(committed(settings, raw_topic("infermedica")).values()) == 3


def test_refused_credentials_end_the_start(own_broker: RunningBroker, api: InfermedicaServer, vendors: Path) -> None:
    api.client_secret = "another"
    with enriching(own_broker, api, vendors) as process:
        assert process.wait() == 2
    assert "refuses the OAuth client credentials (token-http-401)" in process.report("said")


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("FHIRLINE_INFERMEDICA_URL", "http://intake.example.org", "FHIRLINE_INFERMEDICA_URL: must be https://"),
        ("FHIRLINE_INFERMEDICA_CLIENT_ID", "", "FHIRLINE_INFERMEDICA_CLIENT_ID is not set"),
        ("FHIRLINE_INFERMEDICA_CLIENT_SECRET_FILE", "nowhere", "FHIRLINE_INFERMEDICA_CLIENT_SECRET_FILE: No such file"),
        ("FHIRLINE_VENDORS_FILE", "", "has `enrichment: true`"),
    ],
)
def test_wrong_settings_end_the_start(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, setting: str, value: str, told: str
) -> None:
    if setting == "FHIRLINE_VENDORS_FILE":
        vendors.write_text((CONFIG / "vendors.yaml").read_text("utf-8"), "utf-8")
        value = str(vendors)
    with enriching(own_broker, api, vendors, **{setting: value}) as process:
        assert process.wait() == 2
    assert told in process.report("said")


# Many surveys


@also_on_apache
@pytest.mark.long
def test_a_slow_survey_does_not_delay_others(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """In one partition, surveys after an incomplete one are enriched, and the offset waits for it."""
    settings = own_broker.settings()
    others = [f"s-{item}" for item in range(60)]
    api.surveys["slow"] = "pending"
    api.complete(*others)
    records = [survey(other) for other in ("slow", *others)]
    one_partition = [replace(record, key=b"one", timestamp_ms=1) for record in records]
    produce(settings, one_partition)
    with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_REQUESTS="2") as process:
        enriched = reading(ENRICHED)
        assert {survey_of(item) for item in enriched.count(60, process)} == set(others)
        seen = api.asked("/api/v2/surveys/slow/summary")
        api.wait_until_asked("/api/v2/surveys/slow/summary", seen + 3)
        assert committed(settings, raw_topic("infermedica")) == {}, "the first of the partition is not finished"
        api.complete("slow")
        assert survey_of(enriched.count(61, process)[-1]) == "slow"
    assert process.exit_code == 0
    assert list(committed(settings, raw_topic("infermedica")).values()) == [61]


@pytest.mark.long
def test_surveys_in_progress_are_limited_by_the_setting(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    waiting = [f"w-{item}" for item in range(5)]
    for survey_id in waiting:
        api.surveys[survey_id] = "new"
    produce(own_broker.settings(), [survey(item) for item in waiting])
    with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_SURVEYS="2") as process:
        process.wait_for("partitions assigned")
        end = time.monotonic() + LIMIT
        while len(asked := {path for _, path, _ in list(api.requests) if "/surveys/" in path}) < 2:
            assert time.monotonic() < end, process.report("is stuck")
            time.sleep(0.05)
        for path in sorted(asked):
            api.wait_until_asked(path, api.asked(path) + 3)
        assert {path for _, path, _ in list(api.requests) if "/surveys/" in path} == asked
        api.complete(*waiting)
        assert {survey_of(item) for item in reading(ENRICHED).count(5, process)} == set(waiting)


@pytest.mark.long
@also_on_apache
def test_nothing_is_lost_when_killed_between_fetch_and_commit(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """Three SIGKILLs: every survey is enriched, and each repeat is the same event."""
    surveys = [f"s-{item}" for item in range(150)]
    api.complete(*surveys)
    api.surveys["late"] = "pending"
    produce(own_broker.settings(), [survey(item) for item in (*surveys, "late")])
    enriched = reading(ENRICHED)
    for kill in range(3):
        with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_REQUESTS="4") as process:
            asked = len(api.requests)
            end = time.monotonic() + LIMIT
            while len(api.requests) < asked + 60 + 40 * kill:
                assert time.monotonic() < end, process.report("is stuck")
                time.sleep(0.01)
            process.kill()
    with enriching(own_broker, api, vendors) as process:
        api.wait_until_asked("/api/v2/surveys/late/summary", api.asked("/api/v2/surveys/late/summary") + 2)
        api.complete("late")
        wanted = {*surveys, "late"}
        messages = enriched.until(lambda messages: {survey_of(item) for item in messages} >= wanted, process)
    keys: dict[str, set[str | None]] = {}
    for message in messages:
        keys.setdefault(survey_of(message), set()).add(header_of(message, "event-key"))
    assert keys.keys() == wanted
    assert all(len(key) == 1 for key in keys.values()), "a repeat is the same event"
    assert process.exit_code == 0


@pytest.mark.long
def test_sigterm_abandons_retries_without_committing(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    settings = own_broker.settings()
    api.surveys["waits"] = "pending"
    produce(settings, [survey("waits")])
    patient = {"FHIRLINE_ENRICH_RETRY_FIRST": "100", "FHIRLINE_ENRICH_RETRY_LONGEST": "100"}
    with enriching(own_broker, api, vendors, **patient) as process:
        api.wait_until_asked("/api/v2/surveys/waits/summary")
        process.stop()
        assert process.exit_code == 0, process.report("did not end in order")
    assert committed(settings, raw_topic("infermedica")) == {}
    api.complete("waits")
    with enriching(own_broker, api, vendors) as process:
        assert [survey_of(item) for item in reading(ENRICHED).count(1, process)] == ["waits"]


@pytest.mark.long
def test_sigterm_ends_it_while_kafka_is_down(api: InfermedicaServer, vendors: Path) -> None:
    """Nothing can be committed, and it does not wait."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        running = RunningBroker("embedded", broker.bootstrap)
        api.complete("s-1")
        produce(running.settings(), [survey("s-1")])
        with enriching(running, api, vendors, FHIRLINE_SESSION_TIMEOUT="20") as process:
            process.wait_for("survey enriched")
            broker.stop()
            process.wait_for("kafka away")
            process.stop()
            assert process.exit_code == 0, process.report("had to be killed")


@also_on_apache
@pytest.mark.long
def test_two_processes_share_the_partitions(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """A second process joins while surveys are in progress. Nothing is lost, and each has partitions."""
    surveys = [f"s-{item}" for item in range(40)]
    for survey_id in surveys:
        api.surveys[survey_id] = "pending"
    produce(own_broker.settings(), [survey(item) for item in surveys])
    with enriching(own_broker, api, vendors) as first:
        api.wait_until_asked("/api/v2/surveys/s-0/summary")
        with enriching(own_broker, api, vendors) as second:
            assert second.wait_for("partitions assigned")["partitions"] in ([0, 1, 2], [3, 4, 5])
            api.complete(*surveys)
            enriched = reading(ENRICHED)
            enriched.until(lambda messages: {survey_of(message) for message in messages} >= set(surveys), first)
            assert first.running
            assert second.running
        assert second.exit_code == 0


# Tokens and tenants


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


# End to end


def test_from_thin_event_to_resources(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """Enrichment and worker make Patient and RiskAssessment from a survey's id, in the patient's partition."""
    settings = own_broker.settings()
    api.complete("s-1")
    produce(settings, [survey("s-1")])
    resources = reading(*(canonical_topic(item) for item in ("Patient", "RiskAssessment", "QuestionnaireResponse")))
    worker = Process("worker", "worker", environment=environ(own_broker, api, vendors), echo=lambda _: None)
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


# The parts


def test_only_a_contiguous_prefix_is_committed() -> None:
    assignment = Assignment("raw.infermedica", 0)
    for offset in (3, 5, 6, 9):
        assignment.begin(offset)
    assert assignment.to_commit() is None
    assignment.finish(5)
    assignment.finish(9)
    assert assignment.committable is None, "3 is not finished"
    assignment.finish(3)
    assert assignment.committable == 6
    assignment.finish(6)
    assert assignment.committable == 10
    assignment.committed = 10
    assert assignment.to_commit() is None


def test_retries_are_bounded_by_time() -> None:
    policy = RetryPolicy(first=1.0, longest=60.0, give_up_after=900.0)
    waits = [policy.wait(attempt, None, 0.0) for attempt in range(100)]
    assert all(wait is not None and 0.5 <= wait <= 60 for wait in waits)
    assert len(set(waits)) > 90, "jittered"
    asked = policy.wait(0, 30.0, 0.0)
    assert asked is not None
    assert 30 < asked <= 31
    assert policy.wait(0, 901.0, 0.0) is None
    assert policy.wait(5, None, 895.0) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert seconds_until("7") == 7
    assert seconds_until(None) is None
    assert seconds_until("soon") is None
    assert seconds_until("Mon, 01 Jan 2024 00:00:00 GMT") == 0, "it is over"
    assert (seconds_until("Mon, 01 Jan 2224 00:00:00 GMT") or 0) > 1e9
    assert seconds_until("9" * 5_000) == float("inf")


@pytest.mark.parametrize("survey_id", [".", "..", "x" * 201])
def test_ids_that_are_not_a_path_segment_are_refused(survey_id: str) -> None:
    with pytest.raises(NotEnriched, match="no-survey-id"):
        result_path(survey_id, "summary")


def test_an_answer_that_is_too_deep_is_refused() -> None:
    received = Instant.parse(RECEIVED_AT)
    assert received is not None
    envelope = open_envelope("infermedica", TENANT, survey("s-1").value or b"", received)
    assert thin_survey(envelope) == "s-1"
    deep: dict[str, Any] = {}
    for _ in range(230):
        deep = {"deeper": deep}
    with pytest.raises(NotEnriched, match="too-deep"):
        enriched_record(envelope, "s-1", {"summary": ReadBody(deep), "evidence_assessment": ReadBody({})})


def test_vendors_file_of_the_tests_is_valid(vendors: Path) -> None:
    assert load_vendors(vendors)["infermedica"].settings(TENANT).enrichment


# Encryption


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
