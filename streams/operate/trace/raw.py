"""Reading raw records: by position, also of those that were copied and removed, and by event key."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from fhirline.mappers.pipeline.envelope import UnreadableBody
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition, TopicPartition, from_confluent
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.topics.declared import ENRICHED, enriched_topic, raw_topic


class RawReader:
    """Reads raw records. One whose data key is destroyed comes as it is stored, with ``key_destroyed``."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._copies: dict[TopicPartition, dict[str, RecordPosition]] = {}
        """Partition → position of a record that was copied → position of its copy."""

    def at(self, position: str) -> ConsumerRecord | None:
        """Read the record at ``topic/partition/offset``, or its encrypted copy; None where both are gone."""
        parsed = RecordPosition.parse(position)
        if parsed is None or not self._exists(parsed.topic_partition) or self._scanner.end_before(parsed) is not None:
            return None
        found = self._at(parsed)
        if found is None and (copy := self._copy(parsed)) is not None:
            found = self._at(copy)
        return found

    def missing(self, position: str) -> str:
        """Explain why nothing can be at a position, as far as the log's end shows it; empty where it does not."""
        parsed = RecordPosition.parse(position)
        if parsed is None or not self._exists(parsed.topic_partition):
            return "the topic has no such partition"
        end = self._scanner.end_before(parsed)
        if end is None:
            return ""
        last = f"the last offset is {end - 1}" if end else "it has no record yet"
        return f"{parsed.topic_partition}: {last}"

    def search(self, event_key: str, vendors: Iterable[str]) -> Iterator[ConsumerRecord]:
        """Find the records of an event in the raw topics of some vendors."""
        topics = [raw_topic(vendor) for vendor in vendors] + [
            enriched_topic(vendor) for vendor in vendors if vendor in ENRICHED
        ]
        for record in self._read(dict.fromkeys(self._scanner.topic_partitions(topics))):
            if event_key_of(record) == event_key:
                yield record

    def _at(self, position: RecordPosition) -> ConsumerRecord | None:
        partition, offset = position.topic_partition, position.offset
        for record in self._read({partition: offset}, {partition: offset + 1}):
            return record if record.offset == offset else None
        return None

    def _copy(self, position: RecordPosition) -> RecordPosition | None:
        """Find the copy that `fhirline keys encrypt-existing` made of a record which it then removed."""
        partition = position.topic_partition
        if partition not in self._copies:
            own = self._copies[partition] = dict[str, RecordPosition]()
            for record in self._read({partition: None}):
                if (source := header(record.headers, headers.COPY_OF)) is not None:
                    own[source] = record.position
        return self._copies[partition].get(str(position))

    def _exists(self, partition: TopicPartition) -> bool:
        return partition.partition in self._scanner.partitions(partition.topic)

    def _read(
        self, starts: Mapping[TopicPartition, int | None], ends: Mapping[TopicPartition, int] | None = None
    ) -> Iterator[ConsumerRecord]:
        for stored, opened in self._scanner.both(starts, ends):
            record = from_confluent(opened or stored)
            yield record if opened is not None else replace(record, key_destroyed=True)


def readable(raws: Mapping[str, ConsumerRecord | None]) -> dict[str, ConsumerRecord]:
    """Return the records that are there and can be read."""
    return {position: raw for position, raw in raws.items() if raw is not None and not raw.key_destroyed}


def event_key_of(raw: ConsumerRecord) -> str | None:
    """Return the event's key, from the header or computed; None for a record that is not a readable event."""
    if event_key := header(raw.headers, headers.EVENT_KEY):
        return event_key
    try:
        return envelope_of(raw).event_key
    except UnreadableBody:
        return None
