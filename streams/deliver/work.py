"""The two kinds of work of the delivery stage: a Bundle, and the resumption of what waits for a patient."""

from dataclasses import dataclass, field

from fhirline.streams.deliver.entries import Entry
from fhirline.streams.deliver.state import DeliveredPartition
from fhirline.streams.kafka.group_reader import Assignment
from fhirline.streams.kafka.records import ConsumerRecord


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A Bundle that was read. ``entries`` is empty where it cannot be read. ``state``: of its partition."""

    assignment: Assignment
    state: DeliveredPartition
    bundle: ConsumerRecord
    entries: list[Entry] = field(repr=False)
    patients: frozenset[str]

    @property
    def size(self) -> int:
        return len(self.bundle.value or b"")

    @property
    def erases(self) -> bool:
        """Tell whether the Bundle deletes, which only an erasure does (mapping.md §3.5)."""
        return any(entry.resource is None for entry in self.entries)


@dataclass(frozen=True, slots=True, eq=False)
class Resumption:
    """An operator's order to send what waits for a patient."""

    assignment: Assignment
    state: DeliveredPartition
    patient: str
