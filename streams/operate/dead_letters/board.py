"""All dead letters and what became of them, as far as the topics tell.

A redriven event is *done* when the worker has mapped it and wrote no new letter. The worker commits an offset only
after everything that follows from its record, letters included, has been acknowledged (step2). So the order of reading
is what makes the answer true: **first the committed offsets, then the letters to their end.** A letter of an offset
that is committed is there before its commit; the other way round, a letter written in between would be missed.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from confluent_kafka import Message

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import (
    ConsumerRecord,
    RecordPosition,
    TopicPartition,
    from_confluent,
    partition_of,
    position_of,
)
from fhirline.streams.operate.dead_letters.cases import Case, Letter, Mark, Status, cases, letter_of
from fhirline.streams.step4_normalize.dead_letter import TOO_LARGE
from fhirline.topics.declared import DEAD_LETTER_STATUS, ENRICHED, dead_letter_topic, raw_topic

if TYPE_CHECKING:
    from kafka import KafkaAdminClient


class Board:
    """Reads letters without their values (there may be many), and marks; `read` again reads on."""

    def __init__(self, settings: Settings, vendors: Collection[str]) -> None:
        self._settings = settings
        self._topics = [*map(dead_letter_topic, vendors)]
        self._admin: KafkaAdminClient | None = None
        self._positions: dict[TopicPartition, int | None] = {}
        self._letters: dict[RecordPosition, Letter] = {}
        self._marks: dict[str, Mark] = {}
        self._committed: dict[tuple[str, str, int], int] = {}

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        if self._admin is not None:
            self._admin.close()

    def read(self, progress: Progress | None = None) -> list[Case]:
        """Every case there is by now. Raises KafkaAccessError where Kafka does not answer."""
        with Scanner(self._settings, progress) as scanner:
            for message in self._read_on(scanner, [DEAD_LETTER_STATUS]):
                self._take_mark(message)
            self._read_committed(each.redriven for each in self._marks.values() if each.status is Status.REDRIVEN)
            for message in self._read_on(scanner, self._topics):
                letter = letter_of(from_confluent(message))
                self._letters[letter.position] = letter
        return cases(self._letters.values(), self._marks, self._mapped)

    def _read_on(self, scanner: Scanner, topics: Iterable[str]) -> Iterator[Message]:
        starts = {partition: self._positions.get(partition) for partition in scanner.topic_partitions(topics)}
        for message in scanner.read(starts):
            self._positions[partition_of(message)] = (message.offset() or 0) + 1
            yield message

    def _take_mark(self, message: Message) -> None:
        id, value = (message.key() or b"").decode("utf-8", "replace"), message.value()
        if value is None:
            self._marks.pop(id, None)
            return
        try:
            self._marks[id] = Mark.decode(value)
        except ValueError as error:
            raise ConfigurationError(f"{position_of(message)}: {error}; was it written by a newer fhirline?") from None

    def _read_committed(self, positions: Iterable[RecordPosition | None]) -> None:
        wanted = sorted({position.topic_partition for position in positions if position})
        if not wanted:
            return
        import kafka  # takes longer to import than most boards to read
        from kafka.errors import KafkaError

        partitions = [kafka.TopicPartition(*each) for each in wanted]
        try:
            if self._admin is None:
                self._admin = kafka.KafkaAdminClient(**kafka_python(self._settings), client_id="fhirline-dead-letters")
            for group in (self._settings.group, f"{self._settings.group}.enrich"):
                found = self._admin.list_group_offsets({group: partitions})[group]
                self._committed.update({(group, tp.topic, tp.partition): held.offset for tp, held in found.items()})
        except KafkaError as error:
            raise KafkaRequestFailed(f"committed offsets could not be read: {type(error).__name__}") from None

    def _mapped(self, case: Case) -> bool:
        position = case.mark.redriven if case.mark else None
        if position is None:
            return False
        groups = [self._settings.group]
        if position.topic in map(raw_topic, ENRICHED) and any(map(_of_enrichment, case.letters)):
            groups.append(f"{self._settings.group}.enrich")
        return all(
            self._committed.get((each, position.topic, position.partition), -1) > position.offset for each in groups
        )


def _of_enrichment(letter: Letter) -> bool:
    """The worker reads thin events too; its letter of a record too large names the topic that it was for."""
    from fhirline.streams.enrich.stage import FAILED  # brings an HTTP client with it, which hardly any letter needs

    return letter.code == FAILED or (letter.code == TOO_LARGE and not letter.path)


def records(settings: Settings, wanted: Collection[RecordPosition]) -> Iterator[ConsumerRecord]:
    """Read the records at the wanted positions, in their order; those that are gone are left out."""
    starts: dict[TopicPartition, int | None] = {}
    ends: dict[TopicPartition, int] = {}
    for position in sorted(wanted):
        starts.setdefault(position.topic_partition, position.offset)
        ends[position.topic_partition] = position.offset + 1
    with Scanner(settings) as scanner:
        for message in scanner.read(starts, ends):
            if position_of(message) in wanted:
                yield from_confluent(message)
