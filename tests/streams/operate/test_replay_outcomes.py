"""Writing OperationOutcomes again: what others have written stays, and no erased patient's come back."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Message

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.cli.replay.request import ReplayRequest
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, RecordPosition, TopicPartition
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.replay import messages, outcomes
from fhirline.streams.operate.replay.offset_ranges import OffsetRange
from fhirline.streams.operate.replay.remap import Job, Process, Remapper
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.operate.replay.topic_index import TopicIndex
from fhirline.streams.step3_restore.state import PartitionState
from fhirline.streams.step4_normalize.map_event import MappedEvent
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import BUNDLE, OUTCOME, raw_topic
from tests.support.delivery import write
from tests.support.kafka.brokers import RunningBroker
from tests.support.kafka.producing import patient_producer
from tests.support.last_records import held
from tests.support.load import load_on
from tests.support.replaying import DIFFERS, SAME, WRONG, replay
from tests.support.waiting import LIMIT, wait_until
from tests.support.workload import Store, events, produce, undisturbed

PLACE = TopicPartition(OUTCOME, 0)
RAW = TopicPartition(raw_topic("mediquo"), 0)


def outcome(key: str, offset: int, event: str = "e", value: bytes | None = b"{}") -> ProducerRecord:
    """An OperationOutcome that was made of the raw record at an offset."""
    sent = headers(vendor="mediquo", tenant="acme", raw=f"{RAW}/{offset}", event_key=event * 64)
    return ProducerRecord(OUTCOME, key.encode(), value, PLACE.partition, sent)


def range_of(start: int, complete: bool) -> OffsetRange:
    return OffsetRange("mediquo", *RAW, start, 100, 100, complete)


def settled(settings: Settings, of: OffsetRange, failed: Iterable[str] = ()) -> dict[str, bytes | None]:
    """Settle as if none of the range's events had an outcome today. Return the last value of each key."""
    outcomes.settle(settings, [of], outcomes.ends(settings), frozenset(failed))
    return {key.decode(): value for (_, _, key), (value, _) in held(settings, OUTCOME).items()}


def test_an_event_that_cannot_be_mapped_keeps_its_outcome(own_broker: RunningBroker) -> None:
    """Its resources stay as well."""
    settings = own_broker.settings()
    write(settings, [outcome("none-today", 1), outcome("failed-today", 2, event="f")])
    assert settled(settings, range_of(0, True), ["f" * 64]) == {"none-today": None, "failed-today": b"{}"}


@pytest.mark.parametrize("copied", [True, False])
def test_a_raw_record_that_was_copied_and_removed_is_in_the_range(own_broker: RunningBroker, copied: bool) -> None:
    """One that retention has deleted is not: nobody can tell what its event would have today."""
    settings = own_broker.settings()
    write(settings, [outcome("before", 3), outcome("within", 60)])
    assert settled(settings, range_of(50, complete=copied)) == {"before": None if copied else b"{}", "within": None}


def test_what_others_write_meanwhile_stays(own_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker maps a redriven event, and `forget` deletes an outcome, between the reading and our writing."""
    settings = own_broker.settings()
    write(settings, [outcome("redriven", 1), outcome("later", 2), outcome("erased", 200)])
    before = outcomes.ends(settings)
    write(settings, [outcome("erased", 3)])  # ours covers the later one
    publish, left = RecordPublisher.publish, [[outcome("redriven", 300), outcome("erased", 3, value=None)]]

    def late(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> Sequence[ProducerRecord]:
        while left:
            publish(RecordPublisher(settings), left.pop())
        return publish(self, records, delivered)

    monkeypatch.setattr(RecordPublisher, "publish", late)
    outcomes.settle(settings, [range_of(0, True)], before, ())
    assert not left
    found = {key.decode(): value for (_, _, key), (value, _) in held(settings, OUTCOME).items()}
    assert found == {"redriven": b"{}", "later": None, "erased": None}


@pytest.mark.parametrize("topic", [BUNDLE, OUTCOME])
def test_nothing_of_a_patient_who_is_erased_meanwhile_is_sent(
    own_broker: RunningBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """The block comes when the events are mapped and not yet sent; `forget` waits no longer than for a worker."""
    load = load_on(own_broker)
    load.send(load.events(40, seed=3))
    patient = load.patient("mediquo")
    (place,) = {raw.topic_partition for raw in load.raws if raw.key == patient.raw_key.encode()}
    length = max(raw.offset for raw in load.raws if raw.topic_partition == place) + 1
    job = Job(OffsetRange("mediquo", *place, 0, length, length, True), Selection(("mediquo",)), tmp_path)
    index = TopicIndex(tmp_path / "topics.sqlite", load.settings, ["mediquo"])
    remapper = Remapper(load.settings, index)
    process = Process(load.settings, (), remapper, lambda _: None, lambda: False)
    mapping, made = Remapper.map, list[ProducerRecord]()

    def blocking(
        self: Remapper, raw: ConsumerRecord, job: Job, state: PartitionState
    ) -> tuple[MappedEvent, list[ProducerRecord]]:
        mapped = mapping(self, raw, job, state)
        if mapped[0].key == patient.raw_key:
            made.extend(record for record in mapped[0].records if record.topic == topic)
        if raw.offset == length - 1:
            with closing(Erasure(load.settings, patient)) as erasure:
                erasure.erase(erasure.find(), settle=0)
            wait_until(lambda: not self._erasures.fresh, "the list is still taken as fresh")
        return mapped

    monkeypatch.setattr(Remapper, "map", blocking)
    monkeypatch.setattr(messages, "BATCH", length + 1)
    messages.send(process, job, topic, PartitionState())
    index.close()
    assert made, "the test would see nothing"
    written = {key: value for (_, _, key), (value, _) in held(load.settings, topic).items()}
    if topic == OUTCOME:
        assert {written[record.key] for record in made} == {None}
    else:
        assert sent_since(load.settings, topic, {record.key for record in made}) == 1, "the first time alone"


def sent_since(settings: Settings, topic: str, keys: set[bytes]) -> int:
    """Return how often each of the keys was written, which has to be equally often."""
    counted = dict.fromkeys(keys, 0)
    with LogScanner(settings) as scanner:
        for message in scanner.stored(dict.fromkeys(scanner.topic_partitions([topic]))):
            if (key := message.key() or b"") in counted:
                counted[key] += 1
    (times,) = {*counted.values()}
    return times


@pytest.mark.parametrize("name", ["bundles", "outcomes"])
def test_a_run_of_shadow_topics_writes_none(name: str) -> None:
    """A resumed one neither, whose prefix is not among the options."""
    request = ReplayRequest(resume="a-run", diff=False, bundles=name == "bundles", outcomes=name == "outcomes")
    request.check_selected(Selection(("mediquo",)), "")
    with pytest.raises(ConfigurationError, match=f"--{name}: they have no shadow topic"):
        request.check_selected(Selection(("mediquo",)), "shadow.")


@pytest.mark.long
def test_outcomes_are_written_again_on_request_only(own: Settings, tmp_path: Path) -> None:
    """Every event gets today's. One that has none today gets a null value; one that was redriven later keeps it."""
    raws = produce(own, [event for event in events(120, seed=31) if event.topic == "raw.mediquo"])
    made: dict[str, tuple[ConsumerRecord, int]] = {}

    def seen(raw: ConsumerRecord, mapped: MappedEvent) -> None:
        outcomes = [record for record in mapped.records if record.topic == OUTCOME]
        made.update({record.key.decode(): (raw, record.partition or 0) for record in outcomes})

    wanted = {name: value for name, value in undisturbed(own, raws, seen).items() if name.startswith(OUTCOME)}
    assert len(wanted) > 1

    def write(key: str, raw: RecordPosition, partition: int) -> None:
        sent = headers(vendor="mediquo", tenant="acme", raw=str(raw), event_key="e" * 64)
        producer.produce(OUTCOME, b"{}", key, partition, headers=list(sent))

    def outcomes() -> dict[str, bytes]:
        store = Store(own)
        store.read_to_the_end()
        store.close()
        return {name: value for name, value in store.values.items() if name.startswith(OUTCOME)}

    producer, (older, redriven, *_) = patient_producer(own), made
    raw, partition = made[older]
    write(older, raw.position, partition)
    write("OperationOutcome/none-today", raw.position, partition)
    write("OperationOutcome/of-another", RecordPosition("raw.nobody", 0, 0), partition)
    wanted[f"{OUTCOME} OperationOutcome/of-another"] = b"{}"
    raw, partition = made[redriven]
    write(redriven, raw.position._replace(offset=1_000_000), partition)
    wanted[f"{OUTCOME} {redriven}"] = b"{}"
    assert producer.flush(LIMIT) == 0
    before = outcomes()
    assert replay(own, tmp_path, "--publish", "--vendor", "mediquo").code in (SAME, DIFFERS)
    assert outcomes() == before, "without the option"
    part = replay(own, tmp_path, "--publish", "--outcomes", "--vendor", "mediquo", "--until", "2024-06-02T00:00:00Z")
    assert part.code == WRONG
    assert "--outcomes: requires all events" in part.said
    for _ in range(2):  # the second time writes the same
        assert replay(own, tmp_path, "--publish", "--outcomes", "--vendor", "mediquo").code in (SAME, DIFFERS)
        found = outcomes()
        assert found.pop(f"{OUTCOME} OperationOutcome/none-today") == b""
        assert found == wanted
