"""The survey before copying: each partition's records up to its last plain one, and which of them have a copy."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.headers import COPY_OF, EVENT_KEY, FIRST_RAW, RAW, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition, TopicPartition, from_confluent

LETTERS = "dead-letter."

IsDue = Callable[[ConsumerRecord], bool]
"""Tell whether a record must not stay as it is, so that it and everything before it is copied."""


class OffsetSet:
    """A set of offsets, held as ranges: what is copied in order takes two numbers, however long the partition is."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        """Each range's end, exclusive. Ranges are in order and do not touch."""

    def add(self, offset: int) -> None:
        at = bisect_right(self._starts, offset)  # of the first range behind the offset
        if at and offset < self._ends[at - 1]:
            return
        before = at > 0 and self._ends[at - 1] == offset
        behind = at < len(self._starts) and self._starts[at] == offset + 1
        if before and behind:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif before:
            self._ends[at - 1] = offset + 1
        elif behind:
            self._starts[at] = offset
        else:
            self._starts.insert(at, offset)
            self._ends.insert(at, offset + 1)

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._starts, offset)
        return at > 0 and offset < self._ends[at - 1]

    def count(self, first: int, end: int) -> int:
        """Count the offsets from ``first`` to before ``end``."""
        found = 0
        for at in range(bisect_right(self._ends, first), bisect_left(self._starts, end)):
            found += min(end, self._ends[at]) - max(first, self._starts[at])
        return found


@dataclass(slots=True)
class Partition:
    """A partition to be copied. ``end``: the end that was fixed. ``cut``: the offset behind the last record due.

    Kafka can only delete the beginning of a partition. So all records before ``cut`` are copied, encrypted ones too.
    """

    topic_partition: TopicPartition
    end: int = 0
    first: int = 0
    cut: int = 0
    due: int = 0
    """Records that must not stay as they are."""
    records: int = 0
    """Records before ``cut``."""
    size: int = 0
    """Bytes of their keys and values."""
    copies_end: int = 0
    """The offset behind the last copy; 0 where there is none."""
    copied: OffsetSet = field(default_factory=OffsetSet)
    """Offsets that have a copy, by the headers of the copies; once verified, by their contents."""
    _tail: int = 0
    _tail_size: int = 0

    def take(self, record: ConsumerRecord, due: bool) -> None:
        """Count a record. Records come in the order of their offsets."""
        if self.first == self.cut == 0 and not self._tail:
            self.first = self.cut = record.offset
        self.end = record.offset + 1
        self._tail += 1
        self._tail_size += len(record.key or b"") + len(record.value or b"")
        if is_sealed(record) or not due:  # one that must not stay as it is can name any record in its header
            self.take_copy(record)
        if due:
            self.due += 1
            self.cut = record.offset + 1
            self.records += self._tail
            self.size += self._tail_size
            self._tail = self._tail_size = 0

    def take_copy(self, record: ConsumerRecord) -> RecordPosition | None:
        """Note that a record is a copy. Returns the position that it was copied from, if it was in this partition."""
        source = RecordPosition.parse(header(record.headers, COPY_OF))
        if source is None or source.topic_partition != self.topic_partition or source.offset >= record.offset:
            return None
        self.copied.add(source.offset)
        self.copies_end = max(self.copies_end, record.offset + 1)
        return source

    @property
    def uncopied(self) -> int:
        """Return the number of records before ``cut`` that have no copy."""
        return self.records - self.copied.count(self.first, self.cut)


Partitions = dict[TopicPartition, Partition]


def survey(scanner: LogScanner, topics: Iterable[str], is_due: IsDue, names: set[RecordPosition]) -> Partitions:
    """Read all partitions to their ends, which are fixed by that. Raises KafkaAccessError.

    ``names`` gets the positions that records name.
    """
    found = {partition: Partition(partition) for partition in scanner.topic_partitions(topics)}
    for record in read(scanner, dict.fromkeys(found)):
        found[record.topic_partition].take(record, is_due(record))
        names.update(named(record))
    return found


def read(
    scanner: LogScanner, starts: dict[TopicPartition, int | None], ends: dict[TopicPartition, int] | None = None
) -> Iterator[ConsumerRecord]:
    """Read records as they are stored."""
    for message in scanner.stored(starts, ends):
        yield from_confluent(message)


def plain_raw(record: ConsumerRecord) -> bool:
    """Tell whether a raw record is not encrypted."""
    return not is_sealed(record)


def of_ours(record: ConsumerRecord) -> bool:
    """Tell whether our gateway, ingest or enrichment wrote a raw record, and not another producer."""
    return header(record.headers, EVENT_KEY) is not None


def named(record: ConsumerRecord) -> Iterator[RecordPosition]:
    """Return the positions of other records that a record's headers name."""
    for name in (RAW, FIRST_RAW):
        if (position := RecordPosition.parse(header(record.headers, name))) is not None:
            yield position
