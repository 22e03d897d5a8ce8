"""Destroying the data keys of erased patients, so that nobody can read their sealed events again (docs/encryption.md).

Three steps, each durable before the next:

1. a marker ``<index>/erased`` for each key that the patient's events have. From then on every data key under it counts
   as destroyed, also one that a gateway makes later. The patient's own comes last: it leads to the others, whose
   markers name it, so that `let_in` finds them when nobody can read the events any more;
2. a marker ``<index>/<number>/destroyed`` for each data key;
3. a tombstone for each data key.

A run that was killed is finished by the next one, which goes through every patient with the first marker.

`let_in`, which ends an erasure, may run beside `destroy`, and a gateway may meanwhile use a new data key of the
patient. So each of the two reads the partition again after it has written. All markers of a key are in one partition,
so one of the two sees what the other wrote: `destroy` withdraws the second marker where the first one is gone, and
`let_in` writes the first one again where a data key was destroyed.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.key_ring import DESTROYED, ERASED, KeyRing, PartitionKeys
from fhirline.streams.kafka.encryption.secrets import wrapped_by
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition, timestamp_ms
from fhirline.streams.step1_receive.patient_keys import USED_SECONDS
from fhirline.topics.declared import KEYS

Publish = Callable[[list[ProducerRecord]], None]
"""Writes records, and returns when they are durable."""

KeyLocation = tuple[int, str]
"""The location of data keys: a partition of ``normalizer.keys``, and an index, which is a keyed hash of a raw key."""

CLOCKS_DIFFER = timedelta(minutes=5)
"""Largest difference between the clocks of two machines. No command has written a marker with a later time."""

_OF_ANOTHER = re.compile(r"(.*) ([0-9a-f]{64})")
"""The value of a first marker under another index than the patient's own: the time, and the own index."""


class DestroyedMeanwhile(ConfigurationError):
    """Another command destroyed a data key of a patient who was being let in. The patient stays erased."""


class LetInMeanwhile(ConfigurationError):
    """Another command let a patient in whose data keys were being destroyed. They are not destroyed."""


class ErasedKeys:
    """The data keys of erased patients, as ``normalizer.keys`` has them. Raises KafkaAccessError.

    Reads one partition at a time, so that memory does not grow with the number of partitions.
    """

    def __init__(self, settings: Settings, ring: KeyRing, publish: Publish) -> None:
        self._settings = settings
        self._ring = ring
        self._publish = publish

    def locations(self, own: KeyLocation) -> list[KeyLocation]:
        """Return the locations of a patient's first markers, and ``own``, the location of the patient's own index."""
        found = {own}
        for number, keys in self._ring.each(range(self._settings.partitions)):
            found |= {(number, index) for index, marker in keys.erased.items() if _own_index(marker) == own[1]}
        return sorted(found)

    def count(self, locations: Iterable[KeyLocation]) -> int:
        """Count the data keys at these locations that have a value and no marker."""
        wanted = _by_partition(locations)
        return sum(
            name.partition("/")[0] in wanted[number] and name not in keys.destroyed
            for number, keys in self._ring.each(wanted)
            for name in keys.wrapped
        )

    def mark(self, locations: Collection[KeyLocation], own: KeyLocation, at: str) -> None:
        """Write the first marker at each location, at ``own`` last. A marker that exists keeps its time."""
        others = {location for location in locations if location != own}
        for step, marker in ((others, f"{at} {own[1]}"), ({own}, at)):
            wanted = _by_partition(step)
            for number, keys in self._ring.each(wanted):
                missing = sorted(wanted[number] - keys.erased.keys())
                self._publish([_record(number, f"{index}/{ERASED}", marker.encode()) for index in missing])

    def destroy(self, at: str, own: Collection[KeyLocation] = ()) -> tuple[int, int]:
        """Destroy every data key of a patient with the first marker.

        Return how many data keys there were, and how many of them at the locations ``own``. Raises LetInMeanwhile where
        one of these locations has no first marker any more, after everything else is done.
        """
        count = count_own = 0
        let_in = False
        wanted = _by_partition(own)
        for number, keys in self._ring.each(range(self._settings.partitions)):
            gone = self.destroy_in(number, keys, at)
            count += len(gone)
            count_own += sum(name.partition("/")[0] in wanted[number] for name in gone)
            let_in |= bool(wanted[number] - keys.erased.keys())
        if let_in:
            raise LetInMeanwhile("the patient was let in meanwhile (`fhirline forget --lift`): run this again")
        return count, count_own

    def destroy_in(self, number: int, keys: PartitionKeys, at: str) -> list[str]:
        """Destroy the data keys of one partition, which has been read. Return their names."""
        done = [name for name in keys.wrapped if name in keys.destroyed]
        new = [name for name in keys.wrapped if name not in keys.destroyed and name.partition("/")[0] in keys.erased]
        if new:
            self._publish([_record(number, f"{name}/{DESTROYED}", at.encode()) for name in new])
            self._ring.read_on([number])
        let_in = {name for name in new if name.partition("/")[0] not in keys.erased}
        ours = (name for name in let_in if name in keys.wrapped and keys.destroyed.get(name) == at)
        self._publish([_record(number, f"{name}/{DESTROYED}", None) for name in ours])
        gone = [*done, *(name for name in new if name not in let_in)]
        self._publish([_record(number, name, None) for name in gone])
        return gone

    def wrapped_by(self, locations: Iterable[KeyLocation]) -> set[str]:
        """Return the ids of all key-encryption keys that unwrap a data key at these locations.

        They unwrap every value that the log still has, also one that was replaced when it was wrapped anew.
        """
        wanted = {(number, index.encode()) for number, index in locations}
        found = set()
        with LogScanner(self._settings) as scanner:
            for message in scanner.stored({TopicPartition(KEYS, number): None for number, _ in wanted}):
                value, index = message.value(), (message.key() or b"").partition(b"/")[0]
                if value is not None and (message.partition(), index) in wanted:
                    found.add(wrapped_by(value))
        return found - {""}

    def let_in(self, locations: Collection[KeyLocation], own: KeyLocation) -> None:
        """Remove the first markers at locations, at ``own`` last, so that new data keys of the patient are used.

        Raises DestroyedMeanwhile where a data key was destroyed between reading and writing.
        """
        for step in ({location for location in locations if location != own}, {own}):
            wanted = _by_partition(step)
            for number, keys in self._ring.each(wanted):
                marked = {index: keys.erased[index] for index in sorted(wanted[number] & keys.erased.keys())}
                before = _destroyed(keys, marked)
                self._publish([_record(number, f"{index}/{ERASED}", None) for index in marked])
                self._ring.read_on([number])
                if _destroyed(keys, marked) != before:
                    again = marked.items()
                    self._publish([_record(number, f"{index}/{ERASED}", marker.encode()) for index, marker in again])
                    raise DestroyedMeanwhile(
                        "--lift: a data key of this patient was destroyed meanwhile (`fhirline keys rewrap`, or "
                        "another `forget`): nothing was lifted; run this again when a gateway cannot use it any more"
                    )

    def in_use_until(self, locations: Iterable[KeyLocation]) -> datetime | None:
        """Return when no gateway uses a destroyed key at these locations any more; None where that is over."""
        wanted = _by_partition(locations)
        moments: list[datetime] = []
        odd: set[tuple[int, bytes]] = set()
        latest = datetime.now(UTC) + CLOCKS_DIFFER
        for number, keys in self._ring.each(wanted):
            for index in wanted[number]:
                marked = {f"{name}/{DESTROYED}": at for name, at in _destroyed(keys, [index]).items()}
                marked |= {f"{index}/{ERASED}": keys.erased[index]} if index in keys.erased else {}
                for name, marker in marked.items():
                    at = _time(marker)
                    if at is None or at > latest:
                        odd.add((number, name.encode()))
                    else:
                        moments.append(at)
        moments += self._written(odd)
        if not moments:
            return None
        longest = max(self._settings.gateway_delivery_timeout, self._settings.delivery_timeout)
        until = max(moments) + timedelta(seconds=USED_SECONDS + longest)
        return until if until > datetime.now(UTC) else None

    def _written(self, markers: Collection[tuple[int, bytes]]) -> list[datetime]:
        """Return when markers were written, by Kafka's timestamps. Their values are no times, or are in the future."""
        found: dict[tuple[int, bytes], int] = {}
        with LogScanner(self._settings) as scanner:
            for message in scanner.stored({TopicPartition(KEYS, number): None for number, _ in markers}):
                if (name := (message.partition() or 0, message.key() or b"")) in markers:
                    found[name] = timestamp_ms(message)
        now = datetime.now(UTC)
        return [datetime.fromtimestamp(min(at / 1000, now.timestamp()), UTC) for at in found.values()]


def _by_partition(locations: Iterable[KeyLocation]) -> dict[int, set[str]]:
    """Group indexes by partition. Any other partition has an empty set."""
    found: dict[int, set[str]] = defaultdict(set)
    for number, index in locations:
        found[number].add(index)
    return found


def _destroyed(keys: PartitionKeys, indexes: Collection[str]) -> dict[str, str]:
    """Return the destroyed data keys under these indexes, each with the value of its marker."""
    return {name: at for name, at in keys.destroyed.items() if name.partition("/")[0] in indexes}


def _own_index(marker: str) -> str | None:
    """Read the patient's own index from a first marker under another index; None from the marker under the own one."""
    found = _OF_ANOTHER.fullmatch(marker)
    return found[2] if found else None


def _time(marker: str) -> datetime | None:
    """Read the time of a marker; None where it is none. One that an operator wrote by hand may have no zone."""
    found = _OF_ANOTHER.fullmatch(marker)
    try:
        at = datetime.fromisoformat(found[1] if found else marker)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _record(partition: int, key: str, value: bytes | None) -> ProducerRecord:
    return ProducerRecord(KEYS, key.encode(), value, partition)
