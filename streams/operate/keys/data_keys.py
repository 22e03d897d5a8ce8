"""The data keys of ``normalizer.keys``: which key-encryption keys wrap them, and wrapping them anew."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.encryption.key_ring import KeyRing, PartitionKeys
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets, WrappingKeyMissing, wrapped_by
from fhirline.streams.kafka.log_scanner import LogScanner, Progress
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition, timestamp_ms
from fhirline.streams.operate.erasure.keys import ErasedKeys
from fhirline.streams.step1_receive.raw_record import now
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import KEYS

BATCH = 5_000
"""Data keys that are written before their acknowledgements are awaited."""


@dataclass(slots=True)
class Counts:
    """Data keys by the id of the key-encryption key that wraps them."""

    living: Counter[str] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)
    """Destroyed, or of an erased patient, and not removed yet."""
    destroyed: int = 0
    """Data keys with a marker that they were destroyed."""
    erased: int = 0
    """Keys of events, one or more of a patient, all of whose data keys are destroyed."""
    examples: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Id → name and record of one living data key that it wraps."""

    def not_opened(self, secrets: EncryptionSecrets) -> list[str]:
        """Return the ids of the key-encryption keys that do not open a data key that they wrapped.

        They are missing among the secrets, or have another value there.
        """
        found = []
        for id, example in sorted(self.examples.items()):
            try:
                secrets.unwrap(*example)
            except WrappingKeyMissing:
                found.append(id)
        return found

    def wrong(self, secrets: EncryptionSecrets) -> list[str]:
        """Return the ids of the key-encryption keys that are among the secrets with a wrong value."""
        return [id for id in self.not_opened(secrets) if id in secrets.keks]


@dataclass(slots=True)
class Rewrapped:
    """The result of `DataKeys.rewrap`."""

    wrapped: int = 0
    removed: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """Key-encryption key that cannot unwrap → living data keys that are left as they are."""
    destroyed_meanwhile: int = 0
    """Data keys that were destroyed after they were read: the current key-encryption key unwraps them, too."""


@dataclass(frozen=True, slots=True)
class History:
    """The past uses of key-encryption keys, as far as compaction has left them in the log.

    ``last``: when each key-encryption key last wrapped a data key. ``destroyed``: key-encryption keys that unwrap a
    destroyed data key → how many such data keys.
    """

    last: dict[str, Instant]
    destroyed: Counter[frozenset[str]]

    def completed(self, removed: Collection[str], left: Collection[str]) -> tuple[int, int]:
        """Count the destroyed data keys that ``removed`` unwraps: those that ``left`` does not unwrap, and the others.

        >>> found = History({}, Counter({frozenset({"a"}): 2, frozenset({"a", "b"}): 1, frozenset({"b"}): 5}))
        >>> found.completed({"a"}, {"b"})
        (2, 1)
        """
        counts = [0, 0]
        for keks, count in self.destroyed.items():
            if keks.intersection(removed):
                counts[bool(keks.intersection(left))] += count
        return counts[0], counts[1]


class DataKeys:
    """All data keys of a deployment. Raises KafkaAccessError where Kafka cannot be read, PublishFailed in `rewrap`."""

    def __init__(self, settings: Settings, secrets: EncryptionSecrets, progress: Progress | None = None) -> None:
        self._settings = settings
        self._secrets = secrets
        self._progress = progress
        self._ring = KeyRing(settings, secrets, progress)

    def close(self) -> None:
        self._ring.close()

    def count(self) -> Counts:
        """Read the topic to its end and count."""
        found = Counts()
        for _, keys in self._ring.each(range(self._settings.partitions)):
            found.destroyed += len(keys.destroyed)
            found.erased += len(keys.erased)
            for name, wrapped in keys.wrapped.items():
                kek, usable = wrapped_by(wrapped), not keys.unusable(name.partition("/")[0], name)
                (found.living if usable else found.unusable)[kek] += 1
                if usable:
                    found.examples[kek] = name, wrapped
        return found

    def rewrap(self, progress: Callable[[int], None] = lambda _: None) -> Rewrapped:
        """Wrap every living data key with the current key-encryption key, and remove those that are destroyed.

        Killed at any moment, another run does the rest. A key that is destroyed meanwhile may be written again after
        its tombstone; it stays unusable, since its marker wins, and the last step removes it. What cannot be unwrapped
        is left, and does not keep the rest from being done.
        """
        publisher = RecordPublisher(self._settings)
        done = Rewrapped()

        def publish(records: list[ProducerRecord]) -> None:
            publisher.publish(records)

        erased = ErasedKeys(self._settings, self._ring, publish)
        for number, keys in self._ring.each(range(self._settings.partitions)):
            rewrapped: set[str] = set()
            anew = self._wrapped_anew(number, keys, done)
            while batch := [*islice(anew, BATCH)]:
                publish(batch)
                rewrapped.update(record.key.decode() for record in batch)
                done.wrapped += len(batch)
                progress(done.wrapped)
            self._ring.read_on([number])
            done.destroyed_meanwhile += sum(
                keys.unusable(name.partition("/")[0], name) for name in rewrapped.intersection(keys.wrapped)
            )
            done.removed += len(erased.destroy_in(number, keys, now().text))
        return done

    def _wrapped_anew(self, number: int, keys: PartitionKeys, done: Rewrapped) -> Iterator[ProducerRecord]:
        for name, wrapped in [*keys.wrapped.items()]:
            if keys.unusable(name.partition("/")[0], name) or wrapped_by(wrapped) == self._secrets.current:
                continue
            try:
                anew = self._secrets.wrap(name, self._secrets.unwrap(name, wrapped))
            except WrappingKeyMissing:
                done.missing[wrapped_by(wrapped)] += 1
            else:
                yield ProducerRecord(KEYS, name.encode(), anew, number)

    def history(self) -> History:
        """Read what the log of the topic still has of each key-encryption key, one partition at a time."""
        latest: dict[str, int] = {}
        destroyed: Counter[frozenset[str]] = Counter()
        with LogScanner(self._settings, self._progress) as scanner:
            for number, keys in self._ring.each(range(self._settings.partitions)):
                unwrapped_by: dict[str, set[str]] = {}
                for message in scanner.stored({TopicPartition(KEYS, number): None}):
                    name, value = (message.key() or b"").decode("utf-8", "replace"), message.value()
                    if not value or not (kek := wrapped_by(value)):
                        continue
                    latest[kek] = max(latest.get(kek, 0), timestamp_ms(message))
                    if keys.unusable(name.partition("/")[0], name):
                        unwrapped_by.setdefault(name, set()).add(kek)
                destroyed.update(map(frozenset, unwrapped_by.values()))
        moments = ((kek, Instant.from_unix(Decimal(at) / 1000)) for kek, at in latest.items())
        return History({kek: moment for kek, moment in moments if moment is not None}, destroyed)


def hours_since(at: Instant) -> float:
    """Return the hours from a moment until now."""
    return (time.time() - at.order[0]) / 3600
