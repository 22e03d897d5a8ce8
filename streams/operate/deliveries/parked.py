"""Counting what waits at the delivery, again and again, by reading on where the last count ended."""

from dataclasses import dataclass

import orjson

from fhirline.config.settings import Settings
from fhirline.streams.deliver.state import WAITING
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, partition_of
from fhirline.topics.declared import DELIVERED


@dataclass(frozen=True, slots=True)
class Parked:
    """Patients whose Bundles wait, and these Bundles."""

    patients: int
    bundles: int


class ParkedCounter:
    """Reads the delivery's state. Blocking. Raises KafkaAccessError."""

    def __init__(self, settings: Settings) -> None:
        self._scanner = Scanner(settings)
        self._positions: dict[TopicPartition, int | None] = {}
        self._waiting: dict[tuple[TopicPartition, bytes], frozenset[str]] = {}

    def read(self) -> Parked:
        """Read on, and count what waits."""
        if not self._positions:
            self._positions = dict.fromkeys(self._scanner.topic_partitions([DELIVERED]))
        for message in self._scanner.read(dict(self._positions)):
            partition, key, value = partition_of(message), message.key() or b"", message.value()
            self._positions[partition] = (message.offset() or 0) + 1
            if key.startswith(WAITING.encode()):
                if value is None:
                    self._waiting.pop((partition, key), None)
                else:
                    self._waiting[partition, key] = frozenset(orjson.loads(value)["patients"])
        patients = {(partition, patient) for (partition, _), found in self._waiting.items() for patient in found}
        return Parked(len(patients), len(self._waiting))

    def close(self) -> None:
        self._scanner.close()
