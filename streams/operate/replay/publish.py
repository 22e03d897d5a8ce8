"""Publishing what a replay has made, beside live workers that write the same keys.

Nothing locks: Kafka has no compare-and-set. What takes its place, for state and canonical topics alike:

1. **Look, then write.** The topics are read to their ends just before; a record goes out only where it may replace the
   one that lies there (`compare.judge`). Never over a greater version, never over a live event's.
2. **Look back.** Afterwards the stretch between that look and our own records is read. Where a live worker's record of
   the same key lies in it, ours has covered it: it is written again, as it was, until no such stretch is left.
3. **State first.** State entries go to the state topic before anything canonical, and live workers read on there at
   most a second later (step3, `StateCache.behind`): from then on they fold over what the replay has found. What they
   had folded over the old registers meanwhile, the next round finds: the events that came in since the replay began are
   mapped as well, and where a worker's record of them reads otherwise, it is put right. Rounds go on until one has
   nothing left to write.

So an event that comes in between comparing and publishing is not lost. What remains: between 1 and 2, for milliseconds,
a reader may see a key's record before the live event's; and a worker that takes longer than `SETTLE` over one batch,
begun before the registers were there, writes its folds over old ones after the last round. The next event of that
patient mends it, or the same replay run again, which finds it.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import RAW, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition, headers_of, partition_of
from fhirline.streams.operate.replay.compare import Comparison
from fhirline.streams.operate.replay.journal import Journal
from fhirline.streams.operate.replay.remap import Job
from fhirline.streams.operate.replay.topic_index import HeldIndex
from fhirline.streams.step3_restore.erased import ErasureListFeed
from fhirline.streams.step3_restore.state import LOOK_SECONDS, decode
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import canonical_topic

AT_A_TIME = 2_000
SETTLE = LOOK_SECONDS + 2.0
"""Seconds until a live worker folds over registers just published: its look, and the batch that it may have begun."""

ROUNDS = 10

Sent = dict[tuple[str, int, bytes], int]
"""(topic, partition, key) → offset of our own record."""


@dataclass(slots=True)
class Published:
    """What went out. ``restored``: records of live events that ours had covered, written again."""

    records: int = 0
    registers: int = 0
    tombstones: int = 0
    restored: int = 0
    too_large: int = 0
    unsettled: bool = False
    """The last round still had something to write: live events go on changing the same keys."""


@dataclass(slots=True)
class Publisher:
    """Publishes the journals of jobs. ``again`` maps what has come in behind them (`Job.live`)."""

    settings: Settings
    index: HeldIndex
    jobs: Mapping[str, Job]
    journals: Mapping[str, Journal]
    again: Callable[[], None]
    erased: str
    """Who was erased when the journals were begun: nothing of them goes out once somebody else is."""
    prefix: str = ""
    everything: bool = False
    """Send what is the same as well."""
    tombstones: bool = False
    _publisher: RecordPublisher = field(init=False)
    _refused: set[str] = field(default_factory=set, init=False)
    """Keys whose records are larger than Kafka takes: another round would not make them smaller."""
    _erasures: ErasureListFeed = field(init=False)

    def __post_init__(self) -> None:
        self._publisher = RecordPublisher(self.settings)
        self._erasures = ErasureListFeed(self.settings)

    def run(self, advance: Callable[[int], None] = lambda _: None) -> Published:
        """Raises PublishFailed; what has gone out by then is whole by itself, and the run can be resumed."""
        done = Published()
        if self.prefix:  # shadow topics: nobody else writes them, and nobody folds over them
            self.index.read_on()
            self._canonical(done, advance)
            return done
        for _ in range(ROUNDS):
            before = (done.records, done.tombstones, done.restored)
            held = StateHeld.of(self.settings, self.jobs.values())
            self.again()
            if sum([self._registers(job, held[job.span.source], done) for job in self.jobs.values()]):
                time.sleep(SETTLE)  # nobody tells when a worker has looked
                continue
            self.index.read_on()
            self._canonical(done, advance, everything=self.everything and not done.records)
            if (done.records, done.tombstones, done.restored) == before:
                return done
        done.unsettled = True
        return done

    def _registers(self, job: Job, held: "StateHeld", done: Published) -> int:
        """State of a partition: what the range's events say today, where it reads otherwise; how many records."""
        journal, sent = self.journals[job.span.source], 0
        records = []
        for key, value in journal.registers(live=False):
            known = held.values.get(key)
            if known != value and (known is None or not decode(known).version > decode(value).version):
                records.append(ProducerRecord(held.topic, key, value, held.partition))
        if job.rebuilds:
            # State was read before the raw topic's end: what it held then and no event says now, nobody says.
            failed = journal.failed_events()
            for key, value in held.values.items():
                if not journal.has_register(key) and decode(value).version.event_key not in failed:
                    records.append(ProducerRecord(held.topic, key, None, held.partition))
        while records:
            ours: Sent = {}
            self._deliver(records, ours, done)
            sent += len(records)
            done.registers += len(records)
            records = held.covered(self.settings, ours)
        return sent

    def _canonical(self, done: Published, advance: Callable[[int], None], everything: bool = False) -> None:
        comparison = Comparison(self.settings, self.index, self.journals, self.prefix)
        ours: Sent = {}
        batch: list[ProducerRecord] = []

        def send() -> None:
            self._deliver(batch, ours, done)
            advance(len(batch))
            batch.clear()

        for each in comparison.candidates(everything):
            if each.made.key in self._refused:
                continue
            batch.append(each.made.record(self._topic(each.made.key)))
            done.records += 1
            if len(batch) == AT_A_TIME:
                send()
        if self.tombstones:
            for held in comparison.gone():
                batch.append(ProducerRecord(self._topic(held.key), held.key.encode(), None, held.partition))
                done.tombstones += 1
        send()
        while ours and (covered := self._covered(ours)):
            ours = {}
            self._deliver(covered, ours, done)
            done.restored += len(covered)

    def _covered(self, ours: Sent) -> list[ProducerRecord]:
        """Records of live events that lie between our look and our own record of the same key."""
        found: dict[tuple[str, int, bytes], ProducerRecord] = {}

        def look(message: Message) -> None:
            place = (*partition_of(message), bytes(message.key() or b""))
            if (message.offset() or 0) < ours.get(place, -1) and self._is_live(message):
                found[place] = ProducerRecord(place[0], place[2], message.value(), place[1], headers_of(message))

        self.index.read_on(each=look)
        return [*found.values()]

    def _is_live(self, message: Message) -> bool:
        """Whether a raw record has made it that no journal has seen: an older one's is covered rightly. A tombstone
        names none, and is somebody's will (erasure)."""
        source, _, offset = (header(headers_of(message), RAW) or "").rpartition("/")
        journal = self.journals.get(source)
        return journal is None or not offset.isdigit() or int(offset) >= (journal.next or 0)

    def _topic(self, key: str) -> str:
        return self.prefix + canonical_topic(key.partition("/")[0])

    def _deliver(self, records: Iterable[ProducerRecord], ours: Sent, done: Published) -> None:
        def delivered(record: Message) -> None:
            ours[record.topic() or "", record.partition() or 0, bytes(record.key() or b"")] = record.offset() or 0

        self._erasures.require_unchanged(self.erased)
        refused = self._publisher.publish(records, delivered)
        self._refused.update(each.key.decode() for each in refused)
        done.too_large += len(refused)


@dataclass(slots=True)
class StateHeld:
    """A partition of the state topic as it was read: the last value per key, and up to where."""

    topic: str
    partition: int
    values: dict[bytes, bytes]
    position: int | None = None

    @classmethod
    def of(cls, settings: Settings, jobs: Iterable[Job]) -> dict[str, "StateHeld"]:
        """The state of each job's raw partition, by source; read by one consumer."""
        held = {each.span.source: cls(each.span.state_topic, each.span.partition, {}) for each in jobs}
        places: dict[TopicPartition, StateHeld] = {
            TopicPartition(each.topic, each.partition): each for each in held.values()
        }
        with Scanner(settings) as scanner:
            for message in scanner.read(dict.fromkeys(places)):
                places[partition_of(message)]._take(message)
        return held

    def _take(self, message: Message) -> None:
        self.position = (message.offset() or 0) + 1
        key, value = bytes(message.key() or b""), message.value()
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = bytes(value)

    def _read_on(self, settings: Settings) -> list[Message]:
        found = []
        with Scanner(settings) as scanner:
            for message in scanner.read({TopicPartition(self.topic, self.partition): self.position}):
                self._take(message)
                found.append(message)
        return found

    def covered(self, settings: Settings, ours: Sent) -> list[ProducerRecord]:
        """State entries of a greater version that our own records came to lie behind: compaction would lose them."""
        before: dict[bytes, bytes | None] = {}
        found = []
        for message in self._read_on(settings):
            key, value = bytes(message.key() or b""), message.value()
            own = ours.get((self.topic, self.partition, key))
            if own is None:
                continue
            if (message.offset() or 0) < own:
                before[key] = value and bytes(value)
            elif (
                message.offset() == own
                and (live := before.get(key)) is not None
                and (value is None or decode(live).version > decode(bytes(value)).version)
            ):
                found.append(ProducerRecord(self.topic, key, live, self.partition))
        return found
