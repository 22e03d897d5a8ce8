"""``fhirline dead-letters`` beside a real worker: after a fix and a redrive the topics are as if nothing had failed."""

import json
import random
import re
import stat
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest
import yaml
from confluent_kafka import Consumer
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import partition_key
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, TopicPartition
from fhirline.streams.observe.audit import who
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.dead_letters.cases import Status
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Block, hashing
from fhirline.streams.step4_normalize.map_event import MappedEvent, map_event
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import ERASED
from tests.crash.comparison import settled
from tests.support.dead_letters import MARKER, RECEIVED_AT, dead_letters, listed, raw_records, write
from tests.support.kafka.brokers import RunningBroker, also_on_apache, create_topics
from tests.support.running_worker import NOTHING, running
from tests.support.waiting import wait_until
from tests.support.workload import Store, events, produce, undisturbed

SLIP = "no uri"


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A broker for one test, with the declared topics."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6)


def wait_until_mapped(settings: Settings, raws: Iterable[ConsumerRecord]) -> None:
    """Wait until the workers' group has committed all of these."""
    ends: dict[TopicPartition, int] = {}
    for raw in raws:
        ends[raw.topic_partition] = max(raw.offset + 1, ends.get(raw.topic_partition, 0))
    asking = Consumer(librdkafka(settings, **{"group.id": settings.group}))

    def behind() -> int:
        committed = asking.committed([confluent_kafka.TopicPartition(*partition) for partition in ends], 10)
        return sum(item.offset < ends[TopicPartition(item.topic, item.partition)] for item in committed)

    try:
        wait_until(lambda: settled(behind) == 0, "the worker is stuck")  # a coordinator may be on its way
    finally:
        asking.close()


def broken(settings: Settings, folder: Path) -> Settings:
    """Return settings with a mistake in each code table: a code system that is no URI."""
    dumped = load_vendors().model_dump(mode="json", exclude_unset=True)
    vendors, tables = folder / "vendors.yaml", folder / "terminology"
    vendors.write_text(yaml.safe_dump(dumped))
    tables.mkdir()
    for table in files("fhirline.config").joinpath("terminology").iterdir():
        if table.name.endswith(".yaml") and "codings:" in (text := table.read_text("utf-8")):
            (tables / table.name).write_text(re.sub(r'system: "?http[^",]*"?', f'system: "{SLIP}"', text))
    return settings.model_copy(update={"vendors_file": vendors, "terminology_dir": tables})


@pytest.mark.long
@also_on_apache
def test_after_a_fix_and_a_redrive_the_topics_are_as_if_nothing_had_failed(
    own_broker: RunningBroker, tmp_path: Path
) -> None:
    """Events fail, the worker is fixed, later events of the same patients are mapped, the failed ones are redriven.

    Canonical topics are then those of all events mapped in order by the fixed worker: nothing is missing, and nothing
    newer was overwritten, although some of what was redriven was older than what was there.
    """
    settings = own_broker.settings(session_timeout=6)
    slipped = broken(settings, tmp_path)
    made = received_once(record for record in events(1_000, seed=3) if record.topic in ("raw.altibbi", "raw.mediquo"))
    half = len(made) // 2
    early = produce(settings, [*made[:half], large_event()])
    failing = refused(slipped, early) | {str(item.position) for item in early if b"big" in (item.key or b"")}
    with running(
        settings,
        FHIRLINE_VENDORS_FILE=str(slipped.vendors_file),
        FHIRLINE_TERMINOLOGY_DIR=str(slipped.terminology_dir),
        FHIRLINE_MESSAGE_MAX_BYTES="65536",
    ) as worker:
        wait_until_mapped(settings, early)
        assert worker.stop() == 0
    late = produce(settings, made[half:])
    again = [item for item in early if str(item.position) in failing]
    assert stale(settings, [*early, *late], again) > 5, "some redriven event must meet what is newer"
    expected, permanent = undisturbed(settings, [*early, *late]), refused(settings, again)
    assert len(failing - permanent) > 10
    with running(settings) as worker:
        wait_until_mapped(settings, late)
        before = listed(settings)
        assert failing <= {item.id for item in before}
        assert {item.status for item in before} == {Status.OPEN}
        large = [item.last for item in before if item.id in failing and item.last.code == "record-too-large"]
        assert [item.size for item in large] == [None]
        vendors = load_vendors().names
        count = raw_records(settings, vendors)
        shown = dead_letters(settings, "redrive", "--dry-run")
        assert f"{counted(len(before), 'event')} would be sent; nothing was" in shown.stdout, shown.stderr
        assert dead_letters(settings, "redrive").returncode == 2, "without a terminal it needs --yes"
        assert raw_records(settings, vendors) == count

        ids = [f"--id={item}" for item in sorted(failing)]
        for exit_code in (1, 0):  # some fail again; then there is nothing left to send
            said = dead_letters(settings, "redrive", "--yes", "--idempotency-key=k1", "--rate=1000", *ids)
            assert said.returncode == exit_code, said.stdout + said.stderr
            assert raw_records(settings, vendors) == count + len(failing), "the same key sends nothing twice"
        assert f"Sent with this idempotency key before, and not sent again: {len(failing)}\n" in said.stdout
        now = {item.id: item.status for item in listed(settings)}
        assert {item for item in failing if now[item] is Status.DONE} == failing - permanent, worker.report("said")
        assert {item for item in failing if now[item] is Status.FAILED} == failing & permanent
    store = Store(settings)
    store.read_to_the_end()
    assert store.differences(expected) == NOTHING, store.different(expected)
    assert all(len(places) == 1 for places in store.partitions.values()), "a key never changes its partition"
    store.close()


def refused(settings: Settings, raws: list[ConsumerRecord]) -> set[str]:
    """Return the positions of the records that cannot be mapped entirely with these settings."""
    found: set[str] = set()

    def note(raw: ConsumerRecord, followed: MappedEvent) -> None:
        if followed.error:
            found.add(str(raw.position))

    undisturbed(settings, raws, note)
    return found


def stale(settings: Settings, mapped: list[ConsumerRecord], again: list[ConsumerRecord]) -> int:
    """Count the resources that the redriven events must not overwrite."""
    left: list[int] = []

    def count(_: ConsumerRecord, followed: MappedEvent) -> None:
        flags = followed.normalized.flags if followed.normalized else ()
        left.append(sum(len(flag.at) for flag in flags if flag.code == "stale-event"))

    undisturbed(settings, [*mapped, *again], count)
    return sum(left[len(mapped) :])


def received_once(records: Iterable[ProducerRecord]) -> list[ProducerRecord]:
    """Leave out repeats of an event with another time of receipt.

    ``Provenance.recorded`` is that of the delivery that is mapped last (mapping.md §2.1), which a redrive may change.
    """
    first: dict[tuple[str | None, str | None], str | None] = {}
    made = []
    for record in records:
        tenant, event, received = (header(record.headers, name) for name in ("tenant", "event-key", "received-at"))
        if first.setdefault((tenant, event), received) == received:
            made.append(record)
    return made


def large_event() -> Any:
    """Make a report whose records exceed a worker's limit. Its letter has no value."""
    assert RECEIVED_AT is not None
    text = "".join(random.Random(1).choices("abcdefghij ", k=200_000))
    body: dict[str, Any] = {"type": "patient_report_sent", "occurred_on": 1717243500}
    body["payload"] = {"type": "soap", "patient": {"code": "big"}, "content": {"plan": text}}
    return raw_record("mediquo", "acme", orjson.dumps(body), RECEIVED_AT, None, 64)


def test_a_payload_is_shown_only_with_a_reason(settings: Settings, tmp_path: Path) -> None:
    assert RECEIVED_AT is not None
    body = {"event_type": "survey_finished", "content": {"note": MARKER}}
    (raw,) = produce(settings, [raw_record("infermedica", "acme", orjson.dumps(body), RECEIVED_AT, None, 64)])
    followed = map_event(raw, build_normalizer(settings), InMemoryState(), settings.partitions).records
    write(settings, *(item for item in followed if item.topic == "dead-letter.infermedica"))
    plain = [
        dead_letters(settings, "list"),
        dead_letters(settings, "show", str(raw.position)),
        dead_letters(settings, "export", f"--to={tmp_path / 'plain.jsonl'}", "--path=/content/*"),
    ]
    assert [item.returncode for item in plain] == [0, 0, 0], plain
    row = "infermedica\tresource-refused\t/content/survey_id\tmap-3\t1\t1\t0\t0\t0"
    assert row in plain[0].stdout
    assert f"payload         {len(raw.value or b''):,} bytes, shown with --reveal" in plain[1].stdout
    assert "1 event written" in plain[2].stdout
    refused = dead_letters(settings, "show", str(raw.position), "--reveal")
    assert refused.returncode == 2
    assert "--reason" in refused.stderr
    seen = "".join(item.stdout + item.stderr for item in (*plain, refused)) + (tmp_path / "plain.jsonl").read_text()
    key = (raw.key or b"").decode()
    assert MARKER not in seen
    assert key not in seen, "a key names a patient"

    because = ("--reveal", "--reason", "ticket 12", "--as", "a clerk")
    shown = dead_letters(settings, "show", str(raw.position), *because, FHIRLINE_LOG_LEVEL="error")
    assert MARKER in shown.stdout
    assert f"payload         {len(raw.value or b''):,} bytes, below\n" in shown.stdout
    exported = dead_letters(settings, "export", f"--to={tmp_path / 'all.jsonl'}", *because)
    files = dead_letters(settings, "export", f"--to={tmp_path / 'all'}", "--format=files", *because)
    for said in (shown, exported, files):
        audits = [json.loads(line) for line in said.stderr.splitlines() if "dead letter revealed" in line]
        assert [(audit["letter"], audit["reason"]) for audit in audits] == [(str(raw.position), "ticket 12")]
        assert (audits[0]["who"], audits[0]["as"]) == (who(), "a clerk")
        assert MARKER not in said.stderr
    (line,) = map(json.loads, (tmp_path / "all.jsonl").read_text().splitlines())
    assert (line["payload"], line["key"]) == (body, key)
    name = str(raw.position).replace("/", "_")
    assert (tmp_path / "all" / f"{name}.payload").read_bytes() == raw.value
    written = [tmp_path / "plain.jsonl", tmp_path / "all.jsonl", *(tmp_path / "all").iterdir()]
    assert {stat.S_IMODE(item.stat().st_mode) for item in written} == {0o600}
    for unknown in ("raw.infermedica/0/999", "0" * 64):
        missing = dead_letters(settings, "show", unknown)
        assert (missing.returncode, f"no letter {unknown}" in missing.stderr) == (1, True)
    for nonsense in ("", "nonsense", "F" * 64, "raw.infermedica/0", "Patient/1"):
        refused = dead_letters(settings, "show", nonsense)
        assert (refused.returncode, "ID|EVENT_KEY: neither raw.VENDOR" in refused.stderr) == (2, True)

    count = raw_records(settings, ["infermedica"])
    erased = settings.model_copy(update={"erasure_key": SecretStr("k" * 32)})
    block_patient(erased, raw)
    said = dead_letters(settings, "redrive", "--yes", FHIRLINE_ERASURE_KEY="k" * 32)
    assert (said.returncode, "not sent: its patient is erased" in said.stderr) == (1, True), said.stderr
    assert raw_records(settings, ["infermedica"]) == count


def test_a_dead_letter_is_shown_by_its_event_key(settings: Settings) -> None:
    """A webhook that was sent again has the same key, and a case of its own: then the ids are named."""
    assert RECEIVED_AT is not None
    bodies = [{"event_type": "survey_finished", "content": {"note": note}} for note in ("once", "twice", "twice")]
    raws = produce(
        settings,
        [raw_record("infermedica", "acme", orjson.dumps(body), RECEIVED_AT, None, 64) for body in bodies],
    )
    for raw in raws:
        followed = map_event(raw, build_normalizer(settings), InMemoryState(), settings.partitions).records
        write(settings, *(item for item in followed if item.topic == "dead-letter.infermedica"))
    once, *twice = raws
    key, repeated = header(once.headers, "event-key"), header(twice[0].headers, "event-key")
    assert key is not None
    assert repeated is not None
    shown = dead_letters(settings, "show", key, "--json")
    assert shown.returncode == 0, shown.stderr
    assert (json.loads(shown.stdout)["id"], json.loads(shown.stdout)["eventKey"]) == (str(once.position), key)
    several = dead_letters(settings, "show", repeated)
    assert (several.returncode, several.stdout) == (2, ""), several.stderr
    assert "2 events have this event key" in several.stderr
    for raw in twice:
        assert str(raw.position) in several.stderr
    assert str(once.position) not in several.stderr


def block_patient(settings: Settings, raw: ConsumerRecord) -> None:
    """Write a block, as ``fhirline forget`` does first."""
    secret = hashing(settings)
    assert secret is not None
    block = Block(secret.check, "2024-06-02T00:00:00Z")
    write(settings, ProducerRecord(ERASED, secret.digest(partition_key(envelope_of(raw))).encode(), block.encode()))
