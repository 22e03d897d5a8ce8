"""Entries of ``normalizer.dead-letter-status`` that name copied records, written anew with the copies' positions.

The key of an entry is the position of the raw record that was mapped first. Its value names the redriven record and the
last letter. The new entry is durable before the old one's tombstone.
"""

from dataclasses import dataclass, replace

from fhirline.config.errors import ConfigurationError
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ProducerRecord, RecordPosition, TopicPartition
from fhirline.streams.operate.dead_letters.cases import Mark
from fhirline.streams.operate.keys.existing.copying import Copier
from fhirline.streams.operate.keys.existing.moved import Moved
from fhirline.streams.operate.keys.existing.survey import read
from fhirline.topics.declared import DEAD_LETTER_STATUS

PLACE = TopicPartition(DEAD_LETTER_STATUS, 0)


@dataclass(slots=True)
class Marks:
    """The status of each case, by its id."""

    by_case: dict[str, Mark]

    @classmethod
    def read(cls, scanner: LogScanner) -> "Marks":
        """Read the topic. Raises ConfigurationError where an entry cannot be read."""
        found: dict[str, Mark] = {}
        for record in read(scanner, {PLACE: None}):
            id = (record.key or b"").decode("utf-8", "replace")
            if record.value is None:
                found.pop(id, None)
                continue
            try:
                found[id] = Mark.decode(record.value)
            except ValueError as error:
                raise ConfigurationError(f"{record.position}: {error}; was it written by a newer fhirline?") from None
        return cls(found)

    def named(self) -> set[RecordPosition]:
        """Return all positions that the entries name."""
        ids = map(RecordPosition.parse, self.by_case)
        inside = (position for mark in self.by_case.values() for position in (mark.redriven, mark.letter))
        return {position for position in (*ids, *inside) if position is not None}

    def move(self, copier: Copier, moved: Moved) -> int:
        """Write anew the entries that name what was copied. Return how many."""
        written, gone = [], []
        for id, mark in self.by_case.items():
            position = RecordPosition.parse(id)
            case = str(moved.copies.get(position, id)) if position else id
            redriven = moved.copies.get(mark.redriven, mark.redriven) if mark.redriven else None
            own = replace(mark, redriven=redriven, letter=moved.copies.get(mark.letter, mark.letter))
            if case != id:
                gone.append(ProducerRecord(DEAD_LETTER_STATUS, id.encode(), None, 0))
                if case in self.by_case:  # a run that was killed wrote it, or a redrive since
                    continue
            if case != id or own != mark:
                written.append(ProducerRecord(DEAD_LETTER_STATUS, case.encode(), own.encode(), 0))
        copier.write(written)
        copier.write(gone)
        return len(written)
