"""Publishing what a replay has made, beside live workers that write the same keys.

Kafka has no compare-and-set and no locks. Three rules replace them, for state and canonical topics alike:

1. **Read, then write.** The topics are read to their ends just before. A record is written only if it may replace the
   record on its topic (`compare.classify`): never a greater version, never a live event's.
2. **Read back.** Afterwards the records between that reading and ours are read. If a live worker's record of the same
   key is among them, ours has covered it. It is written again, unchanged, until there is none.
3. **State first.** State entries are written before any canonical record. Live workers read them at most a second later
   (step3, `TopicCache.partitions_behind`) and then fold over them. What a worker folded over old entries in between is
   found in the next round: live events since the replay began are mapped as well, and a worker's record that differs
   is corrected. Rounds end when one has nothing to write. Contributions to Practitioners are such records too, and are
   written before the Practitioners.

So an event that arrives between comparing and publishing is not lost. Two effects remain. Between 1 and 2, for
milliseconds, a reader may see a key's replayed record before the live event's. And a worker that is busy with one batch
for longer than `SETTLE`, begun before the entries were there, writes its folds over old entries after the last round.
The next event of that patient corrects it, and so does the same replay run again.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.headers import RAW, header
from fhirline.streams.kafka.records import ProducerRecord, headers_of, position_of
from fhirline.streams.operate.replay.compare import Comparison
from fhirline.streams.operate.replay.journal import Journal
from fhirline.streams.operate.replay.practitioners import Practitioners
from fhirline.streams.operate.replay.remap import Job
from fhirline.streams.operate.replay.state_on_topic import Sent, StateOnTopic
from fhirline.streams.operate.replay.topic_index import TopicIndex
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step3_restore.state import decode
from fhirline.streams.step3_restore.topic_cache import LOOK_SECONDS
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import canonical_topic

BATCH = 2_000
SETTLE = LOOK_SECONDS + 2.0
"""Seconds until a live worker folds over entries just published: its reading interval and a batch in progress."""

ROUNDS = 10


@dataclass(slots=True)
class Published:
    """Counts of written records. ``restored``: records of live events that ours had covered, written again."""

    records: int = 0
    state_entries: int = 0
    tombstones: int = 0
    restored: int = 0
    too_large: int = 0
    unsettled: bool = False
    """The last round still had something to write, because live events kept changing the same keys."""


@dataclass(slots=True)
class Publisher:
    """Publishes the journals of jobs. ``map_live`` maps the live events after their ranges (`Job.live`)."""

    settings: Settings
    index: TopicIndex
    jobs: Mapping[str, Job]
    journals: Mapping[str, Journal]
    practitioners: Practitioners
    map_live: Callable[[], None]
    erased: str
    """Fingerprint of the erased patients when the journals were begun. After another erasure nothing is published."""
    prefix: str = ""
    everything: bool = False
    """Also publish records that are the same."""
    tombstones: bool = False
    _publisher: RecordPublisher = field(init=False)
    _refused: set[str] = field(default_factory=set, init=False)
    """Keys whose records are larger than Kafka takes. They are not sent again in the next round."""
    _erasures: ErasureListFeed = field(init=False)
    _opener: Opener = field(init=False)

    def __post_init__(self) -> None:
        self._publisher = RecordPublisher(self.settings)
        self._opener = Opener(self.settings)
        self._erasures = ErasureListFeed(self.settings)

    def close(self) -> None:
        """Close the consumers of data keys and of the erasure list."""
        self._opener.close()
        self._erasures.close()

    def run(self, advance: Callable[[int], None] = lambda _: None) -> Published:
        """Publish in rounds. Raises PublishFailed; what was written before stays valid, and the run can be resumed."""
        done = Published()
        if self.prefix:  # shadow topics: no one else writes them, and no state belongs to them
            self.index.read_on()
            self.practitioners.fold()
            self._canonical(done, advance)
            return done
        for _ in range(ROUNDS):
            before = (done.records, done.tombstones, done.restored, done.state_entries)
            present = StateOnTopic.read(self.settings, self._opener, self.jobs.values())
            self.map_live()
            if sum([self._state(job, present[job.offset_range.source], done) for job in self.jobs.values()]):
                time.sleep(SETTLE)  # nothing reports when a worker has read its state
                continue
            self.index.read_on()
            self._contributions(done)
            self._canonical(done, advance, everything=self.everything and not done.records)
            if (done.records, done.tombstones, done.restored, done.state_entries) == before:
                return done
        done.unsettled = True
        return done

    def _state(self, job: Job, present: "StateOnTopic", done: Published) -> int:
        """Write a partition's state entries that differ. Return how many records were written."""
        journal, sent = self.journals[job.offset_range.source], 0
        records = []
        for key, value in journal.state_entries(live=False):
            known = present.values.get(key)
            if known != value and (known is None or not decode(known).version > decode(value).version):
                records.append(present.record(self._opener, key, value))
        if job.rebuilds:
            # State was read before the raw topic's end, so an entry that no event fills now is filled by none.
            failed = journal.failed_events()
            records += present.tombstones(
                [
                    key
                    for key, value in present.values.items()
                    if not journal.has_state_entry(key) and decode(value).version.event_key not in failed
                ]
            )
        while records:
            ours: Sent = {}
            self._deliver(records, ours, done)
            sent += len(records)
            done.state_entries += len(records)
            records = present.covered(self.settings, self._opener, ours)
        return sent

    def _contributions(self, done: Published) -> None:
        """Fold the Practitioners, and write the contributions that differ. The workers fold them as well.

        A live worker's contribution that ours covers is found in the next round, since its event is mapped then.
        """
        self.practitioners.fold()
        self._deliver(self.practitioners.changed, {}, done)
        done.state_entries += len(self.practitioners.changed)

    def _canonical(self, done: Published, advance: Callable[[int], None], everything: bool = False) -> None:
        comparison = Comparison(self.settings, self.index, self.journals, self.practitioners, self.prefix)
        ours: Sent = {}
        batch: list[ProducerRecord] = []

        def send() -> None:
            self._deliver(batch, ours, done)
            advance(len(batch))
            batch.clear()

        for candidate in comparison.candidates(everything):
            if candidate.record.key in self._refused:
                continue
            batch.append(candidate.record.record(self._topic(candidate.record.key)))
            done.records += 1
            if len(batch) == BATCH:
                send()
        if self.tombstones:
            for gone in comparison.gone():
                batch.append(ProducerRecord(self._topic(gone.key), gone.key.encode(), None, gone.partition))
                done.tombstones += 1
        send()
        while ours and (covered := self._covered(ours)):
            ours = {}
            self._deliver(covered, ours, done)
            done.restored += len(covered)

    def _covered(self, ours: Sent) -> list[ProducerRecord]:
        """Find records of live events that are between the last reading and our own record of the same key."""
        found: dict[tuple[str, int, bytes], ProducerRecord] = {}

        def visit(message: Message) -> None:
            topic, partition, offset = position_of(message)
            key = bytes(message.key() or b"")
            if offset < ours.get((topic, partition, key), -1) and self._is_live(message):
                found[topic, partition, key] = ProducerRecord(
                    topic, key, message.value(), partition, headers_of(message)
                )

        self.index.read_on(visit=visit)
        return [*found.values()]

    def _is_live(self, message: Message) -> bool:
        """Tell whether the record's raw record is in no journal. Ours may cover the record of an older one.

        A tombstone names no raw record. It is an erasure's, and counts as live.
        """
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
        self._refused.update(record.key.decode() for record in refused)
        done.too_large += len(refused)
