"""The positions of copied records and of their copies, and headers that name the one instead of the other."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.headers import COPY_OF, FIRST_RAW, RAW, Headers, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition, TopicPartition
from fhirline.streams.operate.keys.existing.survey import LETTERS, read

_NAMING = (RAW, FIRST_RAW)


@dataclass(slots=True)
class Moved:
    """The positions that other records name, and those of their first copies."""

    copies: dict[RecordPosition, RecordPosition] = field(default_factory=dict)
    """Position → position of its first copy."""
    origins: dict[RecordPosition, RecordPosition] = field(default_factory=dict)
    """Position of a copy → position of the record that was copied."""

    @classmethod
    def find(
        cls, scanner: LogScanner, opener: Opener, topics: Iterable[str], wanted: Collection[RecordPosition]
    ) -> "Moved":
        """Find the copies of the wanted positions. Other producers' records with the header are none (`verify`)."""
        found, as_it_is = cls(), dict[RecordPosition, tuple[bytes | None, bytes | None]]()
        sought = {position.topic_partition for position in wanted}
        starts: dict[TopicPartition, int | None] = {
            partition: None for partition in scanner.topic_partitions(topics) if partition in sought
        }
        for record in read(scanner, starts):
            if record.position in wanted and _copied_as_it_is(record, opener):
                as_it_is[record.position] = record.key, record.value
            source = RecordPosition.parse(header(record.headers, COPY_OF))
            if source is None or source.topic_partition != record.topic_partition or source >= record.position:
                continue
            if source in wanted and (_encrypted(record, opener) or as_it_is.get(source) == (record.key, record.value)):
                found.copies.setdefault(source, record.position)
                found.origins[record.position] = source
        return found

    def update(self, other: "Moved") -> None:
        self.copies |= other.copies
        self.origins |= other.origins

    def forward(self, headers: Headers) -> Headers:
        """Replace the positions of records in headers by those of their copies."""
        return _renamed(headers, lambda position: self.copies.get(position, position))

    def back(self, headers: Headers) -> Headers:
        """Replace the positions of copies in headers by those of their records, so that both have equal headers."""
        return _renamed(headers, self._origin)

    def _origin(self, position: RecordPosition) -> RecordPosition:
        """Return the record that a copy was made of first. A copy may have been copied by a later run."""
        while (origin := self.origins.get(position)) is not None:
            position = origin  # always at a smaller offset of the same partition
        return position


def _encrypted(record: ConsumerRecord, opener: Opener) -> bool:
    """Tell whether a record is encrypted with a data key of this deployment, so that its headers are ours."""
    return is_sealed(record) and opener.open_now(record).data_key is not None


def _copied_as_it_is(record: ConsumerRecord, opener: Opener) -> bool:
    """Tell whether a copy of this record may be equal to it: nobody can open it, or it is a plain letter."""
    return not _encrypted(record, opener) if is_sealed(record) else record.topic.startswith(LETTERS)


def _renamed(headers: Headers, renamed: Callable[[RecordPosition], RecordPosition]) -> Headers:
    def value(name: str, sent: bytes) -> bytes:
        position = RecordPosition.parse(sent.decode("utf-8", "replace")) if name in _NAMING else None
        return sent if position is None else str(renamed(position)).encode()

    return [(name, value(name, sent)) for name, sent in headers]
