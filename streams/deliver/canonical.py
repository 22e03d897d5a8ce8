"""Current values of resources, from the ``fhir.r4.<Type>`` topics (fhir-delivery.md §3).

`Canonical` finds single resources by reading their partition. `SharedFeed` keeps the resources of shared types in
memory, and what was sent of them.
"""

from collections.abc import Iterable, Mapping

import structlog
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.streams.deliver.entries import SHARED_TYPES, Entry, resource_key
from fhirline.streams.deliver.state import decode_sent
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import RecordPosition, TopicPartition, partition_of
from fhirline.topics.declared import (
    DELIVERED_SHARED,
    PATIENTLESS_TYPES,
    RESOURCE_TYPES,
    canonical_topic,
)
from fhirline.topics.partition import partition_for

log = structlog.get_logger("deliver")


def resource_of(message: Message) -> str | None:
    """Return the key of a record of a ``fhir.r4.<Type>`` topic; None, and a log line, for no such resource.

    Another producer has written such a record. The value before it stays the newest.
    """
    place = partition_of(message)
    key = resource_key(place.topic, message.key(), message.value())
    if key is None:
        position = RecordPosition(place.topic, place.partition, message.offset() or 0)
        log.warning("no resource of this topic, passed over", record=str(position))
    return key


class Canonical:
    """Reads the newest values of resources. Blocking, and slow: it reads whole partitions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._base = settings.server_base or settings.base

    def newest(self, keys: Iterable[str], partition: int) -> Mapping[str, Entry]:
        """Return the current value of each key, a DELETE for a tombstone, nothing for a key without a record.

        ``partition``: the Bundle's, which is also that of the patient's resources. Raises KafkaAccessError.
        """
        wanted: dict[TopicPartition, set[str]] = {}
        for key in keys:
            kind = key.partition("/")[0]
            if kind in RESOURCE_TYPES:
                number = partition_for(key, self._settings.partitions) if kind in PATIENTLESS_TYPES else partition
                wanted.setdefault(TopicPartition(canonical_topic(kind), number), set()).add(key)
        found: dict[str, bytes | None] = {}
        with Scanner(self._settings) as scanner:
            for message in scanner.read(dict.fromkeys(wanted)):
                name = resource_of(message)
                if name is not None and name in wanted[partition_of(message)]:
                    found[name] = message.value()
        return {key: Entry.of_value(key, value, self._base) for key, value in found.items()}


class SharedFeed:
    """Follows the topics of the shared types, and what was sent of them. Blocking; one caller at a time."""

    def __init__(self, settings: Settings) -> None:
        self._scanner = Scanner(settings)
        self._base = settings.server_base or settings.base
        self._topics = [canonical_topic(kind) for kind in RESOURCE_TYPES if kind in SHARED_TYPES]
        self._positions: dict[TopicPartition, int | None] = {}
        self.current: dict[str, Entry] = {}
        self.sent: dict[str, str] = {}
        """``Type/id`` → digest of what was last sent."""

    def refresh(self) -> None:
        """Read on to the topics' ends. Raises KafkaAccessError."""
        if not self._positions:
            partitions = self._scanner.topic_partitions((*self._topics, DELIVERED_SHARED))
            self._positions = dict.fromkeys(partitions)
        for message in self._scanner.read(dict(self._positions)):
            place, value = partition_of(message), message.value()
            if place.topic != DELIVERED_SHARED:
                if key := resource_of(message):
                    self.current[key] = Entry.of_value(key, value, self._base)
            elif value is None:
                self.sent.pop((message.key() or b"").decode(), None)
            else:
                self.sent[(message.key() or b"").decode()] = decode_sent(value).digest
            self._positions[place] = (message.offset() or 0) + 1

    def outdated(self) -> list[Entry]:
        """Return the entries of resources that were sent and have another value now."""
        return [
            entry
            for key, digest in list(self.sent.items())
            if (entry := self.current.get(key)) is not None and entry.digest != digest
        ]

    def close(self) -> None:
        self._scanner.close()
