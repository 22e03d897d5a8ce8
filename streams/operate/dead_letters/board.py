"""All dead letters with their status, read from the topics.

A redriven event is *done* when the worker has mapped it and has written no new letter. The worker commits an offset
only after everything that follows from its record, letters included, has been acknowledged (step2). So the order of
reading matters: **first the committed offsets, then the letters to their end.** A letter of a committed offset was
written before the commit. In the other order, a letter that is written in between would be missed.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from confluent_kafka import Message

from fhirline.config.errors import ConfigurationError, KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.log_scanner import LogScanner
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


PREFETCH_KILOBYTES = 1_024
"""Kilobytes read ahead. Letters have whole payloads, and sending them on takes longer than reading them."""


class Board:
    """Keeps the letters, without their values, and the marks. Each `read` reads on from the one before."""

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
        """Read on, and return every case. Raises KafkaAccessError where Kafka does not answer."""
        with Scanner(self._settings, progress) as scanner:
            for message in self._read_on(scanner, [DEAD_LETTER_STATUS]):
                self._apply_mark(message)
            self._read_committed(mark.redriven for mark in self._marks.values() if mark.status is Status.REDRIVEN)
            for message in self._read_on(scanner, self._topics):
                letter = letter_of(from_confluent(message))
                self._letters[letter.position] = letter
        return cases(self._letters.values(), self._marks, self._mapped)

    def _read_on(self, scanner: Scanner, topics: Iterable[str]) -> Iterator[Message]:
        starts = {partition: self._positions.get(partition) for partition in scanner.topic_partitions(topics)}
        for message in scanner.read(starts):
            self._positions[partition_of(message)] = (message.offset() or 0) + 1
            yield message

    def _apply_mark(self, message: Message) -> None:
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
        import kafka  # its import takes longer than reading most boards
        from kafka.errors import KafkaError

        partitions = [kafka.TopicPartition(*item) for item in wanted]
        try:
            if self._admin is None:
                self._admin = kafka.KafkaAdminClient(**kafka_python(self._settings), client_id="fhirline-dead-letters")
            for group in (self._settings.group, f"{self._settings.group}.enrich"):
                found = self._admin.list_group_offsets({group: partitions})[group]
                self._committed.update({(group, tp.topic, tp.partition): answer.offset for tp, answer in found.items()})
        except KafkaError as error:
            raise KafkaRequestFailed(f"committed offsets could not be read: {type(error).__name__}") from None

    def _mapped(self, case: Case) -> bool:
        """Tell whether every group that reads the case's redriven record has committed an offset after it."""
        position = case.mark.redriven if case.mark else None
        if position is None:
            return False
        groups = [self._settings.group]
        if position.topic in map(raw_topic, ENRICHED) and any(map(_of_enrichment, case.letters)):
            groups.append(f"{self._settings.group}.enrich")
        return all(
            self._committed.get((group, position.topic, position.partition), -1) > position.offset for group in groups
        )


def _of_enrichment(letter: Letter) -> bool:
    """Tell whether the enrichment wrote the letter.

    The worker's letter of a record too large names the record's topic.
    """
    from fhirline.streams.enrich.stage import FAILED  # imports an HTTP client, which few letters need

    return letter.code == FAILED or (letter.code == TOO_LARGE and not letter.path)


def records(settings: Settings, wanted: Collection[RecordPosition]) -> Iterator[ConsumerRecord]:
    """Read the records at the wanted positions, one partition after the other, opened with their data keys.

    Partitions that are read at once arrive in any order, and two exports of the same letters have to be the same file.
    Records that retention has deleted, and those whose keys were destroyed, are left out.
    """
    starts: dict[TopicPartition, int | None] = {}
    ends: dict[TopicPartition, int] = {}
    for position in sorted(wanted):
        starts.setdefault(position.topic_partition, position.offset)
        ends[position.topic_partition] = position.offset + 1
    opener = Opener(settings)
    scanner = LogScanner(settings, prefetch_kilobytes=PREFETCH_KILOBYTES)
    with scanner, closing(opener):
        for message in chain.from_iterable(
            scanner.stored({partition: starts[partition]}, {partition: ends[partition]}) for partition in starts
        ):
            if position_of(message) in wanted:
                opened = opener.open_now(from_confluent(message))
                if not opened.key_destroyed:
                    yield opened
