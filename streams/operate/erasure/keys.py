"""Destroying the data keys of erased patients, so that nobody can read their sealed events again (docs/encryption.md).

Three steps, each durable before the next:

1. a marker ``<index>/erased`` for each key that the patient's events have. From then on every data key under it counts
   as destroyed, also one that a gateway makes later. The patient's own comes last: it leads to the others;
2. a marker ``<index>/<number>/destroyed`` for each data key;
3. a tombstone for each data key.

A run that was killed is finished by the next one, which goes through every patient with the first marker.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.key_ring import DESTROYED, ERASED, KeyRing
from fhirline.streams.kafka.encryption.secrets import wrapped_by
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition
from fhirline.streams.step1_receive.patient_keys import USED_SECONDS
from fhirline.topics.declared import KEYS

Publish = Callable[[list[ProducerRecord]], None]
"""Writes records, and returns when they are durable."""

Place = tuple[int, str]
"""A partition of ``normalizer.keys`` and an index."""


class ErasedKeys:
    """The data keys of erased patients, as ``normalizer.keys`` has them."""

    def __init__(self, settings: Settings, ring: KeyRing, publish: Publish) -> None:
        self._settings = settings
        self._ring = ring
        self._publish = publish

    def read(self) -> None:
        """Read the topic to its end. Raises KafkaAccessError."""
        self._ring.read_on(range(self._settings.partitions))

    def count(self, places: Iterable[Place]) -> int:
        """Count the data keys of these places that have a value and no marker, by what has been read."""
        wanted = {*places}
        return sum(
            (number, name.partition("/")[0]) in wanted and name not in keys.destroyed
            for number in {number for number, _ in wanted}
            for keys in [self._ring.partition(number)]
            for name in keys.wrapped
        )

    def mark(self, places: Iterable[Place], own: Place, at: str) -> None:
        """Write the first marker of each place, of ``own`` last. One that is there keeps its time."""
        others = [place for place in places if place != own]
        for step in (others, [own]):
            self._publish([_marker(place, ERASED, at) for place in step if not self._erased(place)])
        self.read()

    def destroy(self, at: str, own: Collection[Place] | None = None) -> int:
        """Destroy every data key of a patient with the first marker.

        Return how many there were of the places in ``own``; None: of all.
        """
        found = [*self._keys()]
        self._publish([_record(number, f"{name}/{DESTROYED}", at.encode()) for number, name, done in found if not done])
        self._publish([_record(number, name, None) for number, name, _ in found])
        return sum(own is None or (number, name.partition("/")[0]) in own for number, name, _ in found)

    def wrapped_by(self, places: Iterable[Place]) -> set[str]:
        """Return the ids of all key-encryption keys that unwrap a data key of these places.

        They unwrap every value that the log still has, also one that was replaced when it was wrapped anew.
        """
        wanted = {(number, index.encode()) for number, index in places}
        found = set()
        with LogScanner(self._settings) as scanner:
            for message in scanner.stored({TopicPartition(KEYS, number): None for number, _ in wanted}):
                value, index = message.value(), (message.key() or b"").partition(b"/")[0]
                if value is not None and (message.partition(), index) in wanted:
                    found.add(wrapped_by(value))
        return found - {""}

    def let_in(self, places: Sequence[Place]) -> None:
        """Remove the first marker of places: data keys that are made from now on are used again."""
        self._publish([_marker(place, ERASED, None) for place in places if self._erased(place)])

    def in_use_until(self, places: Iterable[Place]) -> datetime | None:
        """Return when no gateway uses a destroyed key of these places any more; None where that is over."""
        marked = [at for number, index in places for at in self._times(number, index)]
        if not marked:
            return None
        longest = max(self._settings.gateway_delivery_timeout, self._settings.delivery_timeout)
        until = max(map(_time, marked)) + timedelta(seconds=USED_SECONDS + longest)
        return until if until > datetime.now(UTC) else None

    def _erased(self, place: Place) -> bool:
        return place[1] in self._ring.partition(place[0]).erased

    def _times(self, number: int, index: str) -> list[str]:
        keys = self._ring.partition(number)
        destroyed = [at for name, at in keys.destroyed.items() if name.startswith(index)]
        return [*destroyed, *([keys.erased[index]] if index in keys.erased else [])]

    def _keys(self) -> Iterable[tuple[int, str, bool]]:
        """Yield partition and name of each data key that is to be destroyed, and whether it has its marker."""
        for number in range(self._settings.partitions):
            keys = self._ring.partition(number)
            for name in keys.wrapped:
                done = name in keys.destroyed
                if done or name.partition("/")[0] in keys.erased:
                    yield number, name, done


def _time(written: str) -> datetime:
    """Read the time of a marker. One that an operator wrote by hand may have no zone, or be no time: then it is now."""
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        return datetime.now(UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _marker(place: Place, mark: str, at: str | None) -> ProducerRecord:
    return _record(place[0], f"{place[1]}/{mark}", None if at is None else at.encode())


def _record(partition: int, key: str, value: bytes | None) -> ProducerRecord:
    return ProducerRecord(KEYS, key.encode(), value, partition)
