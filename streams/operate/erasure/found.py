"""The records that were found of a patient, and those of them that cannot be deleted."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Message

from fhirline.streams.kafka.records import TopicPartition, timestamp_ms
from fhirline.streams.step3_restore.erasure_list import Compartment


@dataclass(slots=True)
class Remains:
    """Records of one partition that no tombstone deletes. They remain until the topic's retention ends."""

    records: int = 0
    oldest_ms: int = 0
    newest_ms: int = 0
    first_offset: int = 0
    last_offset: int = 0

    def add(self, message: Message) -> None:
        at, offset = timestamp_ms(message), message.offset() or 0
        if not self.records:
            self.oldest_ms, self.first_offset = at, offset
        self.records += 1
        self.oldest_ms, self.newest_ms = min(self.oldest_ms, at), max(self.newest_ms, at)
        self.last_offset = offset


@dataclass(slots=True)
class Found:
    """Everything that is known of a patient.

    ``compartments``: by raw key, the patient's own and those of events that name the patient otherwise, such as by a
    survey's id. ``live``: canonical records with a value → the way it was found. ``state``: state entries. ``keys``:
    every canonical key that was ever the patient's. ``mapped``: the keys that the present mapping makes. ``patients``:
    ``"Patient/<id>"`` and the identifiers, as references write them. ``origins``: positions of the patient's raw
    records. ``raw_keys``: their keys, each with its partition. ``outcomes``: partitions and keys of the events'
    OperationOutcomes without a null value; the topic may no longer have them, or never have had them.
    """

    compartments: dict[str, Compartment]
    live: dict[tuple[TopicPartition, str], str] = field(default_factory=dict)
    state: set[tuple[TopicPartition, bytes]] = field(default_factory=set)
    outcomes: set[tuple[TopicPartition, str]] = field(default_factory=set)
    remains: dict[TopicPartition, Remains] = field(default_factory=dict)
    unreadable: dict[TopicPartition, Remains] = field(default_factory=dict)
    """Encrypted raw records and dead letters whose data keys are destroyed: they remain, too, and nobody can read them.
    A later run finds those of other keys than the patient's own by the markers of their data keys."""
    keys: set[str] = field(default_factory=set)
    mapped: frozenset[str] = frozenset()
    patients: set[bytes] = field(default_factory=set)
    origins: set[str] = field(default_factory=set)
    raw_keys: set[tuple[str, int]] = field(default_factory=set)
    sealed: set[tuple[int, str]] = field(default_factory=set)
    """Partition of ``normalizer.keys`` and index of each encrypted record of the patient, as it is stored. Copies of
    another producer's records may have an index that does not follow from the patient's key."""

    @property
    def raw_records(self) -> int:
        return _raw_records(self.remains)

    @property
    def unreadable_raw_records(self) -> int:
        return _raw_records(self.unreadable)

    @property
    def nothing(self) -> bool:
        return not (self.live or self.state or self.remains or self.unreadable or self.keys)

    def by_type(self) -> Counter[str]:
        """Count the live keys by resource type."""
        return Counter(key.partition("/")[0] for _, key in self.live)

    def by_way(self) -> Counter[str]:
        """Count the live keys by the way they were found."""
        return Counter(self.live.values())


def _raw_records(remains: Mapping[TopicPartition, Remains]) -> int:
    return sum(remain.records for partition, remain in remains.items() if partition.topic.startswith("raw."))
