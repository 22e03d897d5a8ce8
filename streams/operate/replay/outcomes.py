"""``--outcomes``: write the OperationOutcomes of all events again, for tables that count the flags of events.

An OperationOutcome reports on one event over the state of the moment of its mapping (mapping.md §5.2), and is not
compared. So they are made in a pass of their own, in the order of the events, over state that begins as it did then:
empty. That is why all events of a partition have to be selected.

Afterwards the topic is read once. An event that had one, and has none today, gets a null value under its key; one that
cannot be mapped today keeps what it had, as its resources do. An event that was redriven after the range has the
outcome of its redriven record, which a live worker wrote: where ours came after it, it is written again. So is what
others, workers or `forget`, have written between that reading and ours.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import EVENT_KEY, RAW, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import (
    ConsumerRecord,
    ProducerRecord,
    RecordPosition,
    TopicPartition,
    from_confluent,
)
from fhirline.streams.operate.replay import messages
from fhirline.streams.operate.replay.offset_ranges import OffsetRange
from fhirline.streams.operate.replay.remap import Job, this_process
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import OUTCOME

Ends = Mapping[TopicPartition, int]


def send(job: Job) -> int:
    """Send a job's OperationOutcomes, as a task of a mapping process. Return how many are larger than Kafka takes.

    A second call sends the same. Ends early where the run is stopped.
    """
    process = this_process()
    return 0 if process.stopped() else messages.send(process, job, OUTCOME, process.remapper.base(job))


def ends(settings: Settings) -> Ends:
    """Return the ends of the topic's partitions. The records behind them were written later."""
    with LogScanner(settings) as scanner:
        return {partition: scanner.end(*partition) for partition in scanner.topic_partitions([OUTCOME])}


def settle(settings: Settings, ranges: Sequence[OffsetRange], before: Ends, failed: Collection[str]) -> int:
    """Write null values for outcomes that no event has today, and later ones again that ours cover.

    ``before``: where the topic ended when the first of ours was sent. ``failed``: event keys of events that cannot be
    mapped. Return how many are larger than Kafka takes.
    """
    of_partition = {item.topic_partition: item for item in ranges}
    publisher, too_large = RecordPublisher(settings), 0
    with LogScanner(settings) as scanner:
        for partition, end in before.items():
            settling = Settling(partition, end, of_partition, failed)
            for message in scanner.stored({partition: None}):
                settling.take(from_confluent(message))
            records = settling.records()
            while records:
                ours: dict[bytes, int] = {}
                too_large += len(publisher.publish(records, partial(_note, ours)))
                records = settling.covered(scanner, ours)
    return too_large


def _note(ours: dict[bytes, int], sent: Message) -> None:
    ours[bytes(sent.key() or b"")] = sent.offset() or 0


class Settling:
    """The outcomes of a range's events on one partition of the topic, and the records that have to be written to it."""

    def __init__(
        self, partition: TopicPartition, end: int, ranges: Mapping[TopicPartition, OffsetRange], failed: Collection[str]
    ) -> None:
        self._partition = partition
        self._end = end
        self._ranges = ranges
        self._failed = failed
        self._position = 0
        self._newest: dict[bytes, int] = {}
        """Key of an outcome of the range → offset."""
        self._later: dict[bytes, ConsumerRecord] = {}
        """Key → the outcome of an event after the range."""

    def take(self, record: ConsumerRecord) -> None:
        """Take a record, in the partition's order."""
        self._position = record.offset + 1
        if (key := record.key) is None:
            return
        raw = RecordPosition.parse(header(record.headers, RAW))
        of_range = self._ranges.get(raw.topic_partition) if raw else None
        if record.value is None or raw is None or of_range is None or _is_gone(raw, of_range):
            self._newest.pop(key, None)
            self._later.pop(key, None)
        elif raw.offset >= of_range.end:
            self._newest.pop(key, None)
            self._later[key] = record
        elif record.offset < self._end and header(record.headers, EVENT_KEY) in self._failed:
            self._newest.pop(key, None)
        else:
            self._newest[key] = record.offset

    def records(self) -> list[ProducerRecord]:
        """Return the null values, and the later outcomes that ours cover."""
        made = []
        for key, offset in self._newest.items():
            if offset < self._end:
                made.append(ProducerRecord(OUTCOME, key, None, self._partition.partition))
            elif (covered := self._later.get(key)) is not None:
                made.append(ProducerRecord(OUTCOME, key, covered.value, self._partition.partition, covered.headers))
        return made

    def covered(self, scanner: LogScanner, ours: Mapping[bytes, int]) -> list[ProducerRecord]:
        """Return the records of others since the last reading that ours have covered. ``ours``: key → offset."""
        found: dict[bytes, ProducerRecord] = {}
        for message in scanner.stored({self._partition: self._position}):
            record = from_confluent(message)
            self._position = record.offset + 1
            if record.key is not None and record.offset < ours.get(record.key, -1):
                found[record.key] = ProducerRecord(
                    OUTCOME, record.key, record.value, self._partition.partition, record.headers
                )
        return [*found.values()]


def _is_gone(raw: RecordPosition, of_range: OffsetRange) -> bool:
    """Tell whether retention has deleted the raw record. One that was copied before it was removed is in the range."""
    return raw.offset < of_range.start and not of_range.complete
