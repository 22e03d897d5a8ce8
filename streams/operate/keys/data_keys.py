"""The data keys of ``normalizer.keys``: which key-encryption keys wrap them, and wrapping them anew."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.encryption.key_ring import KeyRing, PartitionKeys
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets, WrappingKeyMissing, wrapped_by
from fhirline.streams.kafka.log_scanner import LogScanner, Progress
from fhirline.streams.kafka.records import ProducerRecord, timestamp_ms
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


@dataclass(slots=True)
class Rewrapped:
    """What `DataKeys.rewrap` did."""

    wrapped: int = 0
    removed: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """Key-encryption key that cannot unwrap → living data keys that are left as they are."""
    destroyed_meanwhile: int = 0
    """Data keys that were destroyed after they were read: the current key-encryption key unwraps them, too."""


class DataKeys:
    """All data keys of a deployment. Raises KafkaAccessError where Kafka cannot be read, PublishFailed in `rewrap`."""

    def __init__(self, settings: Settings, secrets: EncryptionSecrets) -> None:
        self._settings = settings
        self._secrets = secrets
        self._ring = KeyRing(settings, secrets)

    def close(self) -> None:
        self._ring.close()

    def count(self) -> Counts:
        """Read the topic to its end and count."""
        found = Counts()
        for _, keys in self._ring.each(range(self._settings.partitions)):
            found.destroyed += len(keys.destroyed)
            found.erased += len(keys.erased)
            for name, wrapped in keys.wrapped.items():
                counted = found.unusable if keys.unusable(name.partition("/")[0], name) else found.living
                counted[wrapped_by(wrapped)] += 1
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

    def last_wrapped(self, progress: Progress | None = None) -> dict[str, Instant]:
        """Return when each key-encryption key last wrapped a data key, of those that a record shows."""
        latest: dict[str, int] = {}
        with LogScanner(self._settings, progress) as scanner:
            for message in scanner.stored(dict.fromkeys(scanner.topic_partitions([KEYS]))):
                if (value := message.value()) and (kek := wrapped_by(value)):
                    latest[kek] = max(latest.get(kek, 0), timestamp_ms(message))
        moments = ((kek, Instant.from_unix(Decimal(at) / 1000)) for kek, at in latest.items())
        return {kek: moment for kek, moment in moments if moment is not None}


def hours_since(at: Instant) -> float:
    """Return the hours from a moment until now."""
    return (time.time() - at.order[0]) / 3600
