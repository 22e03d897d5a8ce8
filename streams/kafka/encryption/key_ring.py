"""The data keys of ``normalizer.keys``: each partition is read when one of its keys is asked for.

Keys of records there:

* ``<index>/<number>``: a data key, wrapped; a tombstone once it is destroyed.
* ``<index>/<number>/destroyed``: the key was destroyed on purpose. It wins over every value, so that a key that is
  *destroyed* (an erased patient) is told from one that is *lost*, whatever order compaction leaves.
* ``<index>/erased``: the patient is erased, so that every key of the patient counts as destroyed, also later ones. A
  patient's events may have several indexes; the value of all others names the patient's own, behind the time.

A writer's key is durable before the first record that is sealed with it. So whoever has read such a record finds the
key by reading the partition to its end, and a key that is not there then is lost.
"""

import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from fhirline.config.errors import KafkaAccessError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets, WrappingKeyMissing
from fhirline.streams.kafka.log_scanner import LogScanner, Progress
from fhirline.streams.kafka.records import TopicPartition
from fhirline.topics.declared import KEYS

_NAME = re.compile(r"[0-9a-f]{64}/[0-9a-f]{32}")
_INDEX = re.compile(r"[0-9a-f]{64}")
LONGEST = 1_024
"""Bytes of a record's value that are kept. Ours are shorter; what another producer wrote here takes no memory."""

DESTROYED = "destroyed"
ERASED = "erased"
SAMPLE = 1_000
"""Data keys of a partition that are looked at to see whether they were made with our index secret."""

UNWRAPPED = 16_384
"""Data keys that are kept unwrapped."""


class DataKeyMissing(KafkaAccessError):
    """A record is sealed with a data key that is neither in ``normalizer.keys`` nor destroyed there: it is lost."""


@dataclass(slots=True)
class PartitionKeys:
    """The data keys that have been read of one partition."""

    wrapped: dict[str, bytes] = field(default_factory=dict)
    """Name of a data key → its record's value."""
    destroyed: dict[str, str] = field(default_factory=dict)
    """Name of a destroyed data key → when, RFC 3339."""
    erased: dict[str, str] = field(default_factory=dict)
    """Index of an erased patient → when, RFC 3339, and after a space the patient's own index where it is another."""
    position: int | None = None
    read_at: float = float("-inf")
    """When it was last read to its end (``time.monotonic``)."""
    _newest: dict[str, str] = field(default_factory=dict)
    """Index → name of the key that was made last, while nothing new is read."""

    def newest(self) -> dict[str, str]:
        """Return the name of each patient's newest living key, by index."""
        if not self._newest:
            living = (name for name in self.wrapped if name not in self.destroyed)
            found = {name.partition("/")[0]: name for name in living}
            self._newest = {index: name for index, name in found.items() if index not in self.erased}
        return self._newest

    def apply(self, key: str, value: bytes | None) -> None:
        """Apply a record of the partition. Records of other forms are ignored."""
        self._newest = {}
        index, _, rest = key.partition("/")
        number, _, mark = rest.partition("/")
        if rest == ERASED or mark == DESTROYED:
            marked, name = (self.erased, index) if rest == ERASED else (self.destroyed, f"{index}/{number}")
            if value is None:
                marked.pop(name, None)
            elif (_INDEX if rest == ERASED else _NAME).fullmatch(name):
                marked[name] = value[:LONGEST].decode("utf-8", "replace")
        elif _NAME.fullmatch(key):
            if value is None:
                self.wrapped.pop(key, None)
            else:
                self.wrapped[key] = bytes(value[:LONGEST])

    def unusable(self, index: str, name: str) -> bool:
        """Tell whether the key was destroyed, or its patient erased."""
        return name in self.destroyed or index in self.erased


class KeyRing:
    """Finds data keys. `read_on` blocks; the event loop calls it in a thread, for all keys of a batch at once."""

    def __init__(
        self,
        settings: Settings,
        secrets: EncryptionSecrets,
        progress: Progress | None = None,
        any_index: bool = False,
    ) -> None:
        """Make an empty ring.

        ``any_index``: also read a partition of which all data keys were made with another index secret.
        """
        self._any_index = any_index
        self._settings = settings
        self._progress = progress
        self._secrets = secrets
        self._partitions: dict[int, PartitionKeys] = {}
        self._reading = threading.Lock()
        self._scanner: LogScanner | None = None
        self._unwrapped = lru_cache(maxsize=UNWRAPPED)(self._unwrap)

    def close(self) -> None:
        with self._reading:
            if self._scanner is not None:
                self._scanner.close()
                self._scanner = None

    @property
    def open(self) -> bool:
        """Tell whether the ring has a consumer, which `close` closes and the next reading makes again."""
        return self._scanner is not None

    def keep(self, partitions: Iterable[int]) -> None:
        """Drop the keys of all other partitions."""
        kept = set(partitions)
        self._partitions = {number: keys for number, keys in self._partitions.items() if number in kept}

    def sure(self, partition: int, index: str, number: str, since: float = float("inf")) -> bool:
        """Tell whether `find` can answer by what has been read.

        It cannot where a key is not there, and where the patient is erased by what was read before ``since``
        (``time.monotonic``): the patient may have been let in again.
        """
        keys, name = self._partitions.get(partition), f"{index}/{number}"
        if keys is None:
            return False
        return keys.read_at >= since if keys.unusable(index, name) else name in keys.wrapped

    def erased(self, partition: int, index: str) -> bool:
        """Tell whether the patient is erased, by what has been read."""
        keys = self._partitions.get(partition)
        return keys is not None and index in keys.erased

    def made(self, partition: int, index: str, number: str) -> bool:
        """Tell whether a process with our index secret made this number."""
        return self._secrets.numbered(index, partition, number)

    def destroyed(self, partition: int, index: str, number: str) -> bool:
        """Tell whether the data key was destroyed, or given up, by what has been read."""
        keys = self._partitions.get(partition)
        return keys is not None and f"{index}/{number}" in keys.destroyed

    def has(self, partition: int, index: str, number: str) -> bool:
        """Tell whether there is such a data key, or was, by what has been read."""
        keys, name = self._partitions.get(partition) or PartitionKeys(), f"{index}/{number}"
        return name in keys.wrapped or name in keys.destroyed

    def read_on(self, partitions: Iterable[int]) -> None:
        """Read partitions from where they were read to before to their ends. Raises KafkaAccessError.

        Raises WrappingKeyMissing where all data keys of a partition were made with another index secret.
        """
        with self._reading:
            began = time.monotonic()
            found = {number: self._partitions.get(number) or PartitionKeys() for number in partitions}
            if self._scanner is None:
                self._scanner = LogScanner(self._settings, self._progress)
            starts = {TopicPartition(KEYS, number): keys.position for number, keys in found.items()}
            for message in self._scanner.stored(starts):
                keys = found[message.partition() or 0]
                keys.apply((message.key() or b"").decode("utf-8", "replace"), message.value())
                keys.position = (message.offset() or 0) + 1
            for number, keys in found.items():
                keys.read_at = began
                self._require_our_index(number, keys)
            self._partitions = {**self._partitions, **found}

    def _require_our_index(self, partition: int, keys: PartitionKeys) -> None:
        """Raise WrappingKeyMissing where none of the first data keys was made with our index secret.

        Those that were given up do not count.
        """
        if self._any_index:
            return
        names = [name.partition("/") for name in islice(keys.wrapped, SAMPLE) if name not in keys.destroyed]
        if names and not any(self.made(partition, index, number) for index, _, number in names):
            raise WrappingKeyMissing(
                "FHIRLINE_ENCRYPTION: the index secret is another than the one that the data keys in "
                f"{KEYS}/{partition} were made with: give every process the same secrets"
            )

    def find(self, partition: int, index: str, number: str) -> DataKey | None:
        """Return a data key by what has been read; None where it was destroyed or its patient is erased.

        Raises DataKeyMissing where it is neither, and WrappingKeyMissing where it cannot be unwrapped.
        """
        keys, name = self._partitions.get(partition) or PartitionKeys(), f"{index}/{number}"
        if keys.unusable(index, name):
            return None
        if (wrapped := keys.wrapped.get(name)) is None:
            raise DataKeyMissing(
                f"normalizer.keys/{partition} does not have the data key {number}: restore the topic from its backup "
                "(docs/operations.md, a data key is lost)"
            )
        return self._unwrapped(name, wrapped)

    def living(self, partition: int, index: str) -> DataKey | None:
        """Return the newest living key of a patient; None where there is none. Reads the partition once. Blocks."""
        if partition not in self._partitions:
            self.read_on([partition])
        keys = self._partitions[partition]
        name = keys.newest().get(index)
        return None if name is None else self._unwrapped(name, keys.wrapped[name])

    def partition(self, number: int) -> PartitionKeys:
        """Return what has been read of a partition."""
        return self._partitions[number]

    def each(self, partitions: Iterable[int]) -> Iterator[tuple[int, PartitionKeys]]:
        """Read partitions one after the other to their ends, and drop each before the next: one is in memory at a time.

        `read_on` continues the one that was yielded last. Raises as it does.
        """
        for number in partitions:
            self.read_on([number])
            yield number, self._partitions[number]
            self.keep(self._partitions.keys() - {number})

    def _unwrap(self, name: str, wrapped: bytes) -> DataKey:
        index, _, number = name.partition("/")
        return DataKey.of(self._secrets, index, number, self._secrets.unwrap(name, wrapped))
