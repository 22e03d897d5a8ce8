"""Contributions to Practitioners: a cache of ``fold.practitioner`` for the partitions of this process (state.md §9).

For each key, the record that was read last stays, as compaction has it: a contribution contains the earlier ones of its
raw partition. Records that another program wrote in another form are ignored.
"""

from collections.abc import Iterator
from typing import NamedTuple

import orjson
import structlog

from fhirline.mappers.pipeline.practitioner_fold import ContributionKey, decoded
from fhirline.mappers.results import StateEntries
from fhirline.streams.kafka.headers import Headers
from fhirline.streams.step3_restore.topic_cache import TopicCache

log = structlog.get_logger("worker")

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


class Contribution(NamedTuple):
    """A contribution as its record has it. Headers are packed, since a worker holds many."""

    key: ContributionKey
    value: bytes
    packed_headers: bytes

    @property
    def entries(self) -> StateEntries:
        return decoded(self.value)

    @property
    def headers(self) -> Headers:
        """Return the record's headers, which are those of the Practitioner if its latest event is here."""
        return [(name, text.encode()) for name, text in orjson.loads(self.packed_headers)]

    @classmethod
    def read(cls, key: bytes, value: bytes, headers: Headers) -> "Contribution":
        """Read a record. Raises ValueError, KeyError, TypeError or AttributeError where it has another form."""
        packed = orjson.dumps([(name, text.decode()) for name, text in headers])
        contribution = cls(ContributionKey.parse(key), value, packed)
        if not contribution.entries:
            raise ValueError("no entries")
        return contribution


def subject_of(key: bytes | None) -> str | None:
    """Return the subject that a record's key names; None where the key has another form."""
    try:
        return ContributionKey.parse(key or b"").subject
    except _UNREADABLE:
        return None


class PartitionContributions:
    """The contributions of one partition, by subject."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[bytes, Contribution]] = {}
        self.entries = 0
        self.size = 0
        """Bytes of the contributions."""
        self.position: int | None = None
        """Offset up to which everything has been read; None before the first restore."""

    def __call__(self, subject: str) -> tuple[Contribution, ...]:
        """Return the subject's contributions."""
        return tuple(self._subjects.get(subject, {}).values())

    def __iter__(self) -> Iterator[str]:
        """Iterate over the subjects that have a contribution."""
        return iter(self._subjects)

    def read(self, key: bytes, value: bytes | None, headers: Headers) -> None:
        """Apply a record; a tombstone removes its contribution. An unreadable record is logged and ignored."""
        try:
            subject = ContributionKey.parse(key).subject
            new = None if value is None else Contribution.read(bytes(key), bytes(value), headers)
        except _UNREADABLE as error:
            log.error("contribution passed over: it is unreadable", error=type(error).__name__)
            return
        known = self._subjects.setdefault(subject, {})
        if (old := known.pop(key, None)) is not None:
            self.entries -= 1
            self.size -= len(old.value)
        if new is not None:
            known[key] = new
            self.entries += 1
            self.size += len(new.value)
        if not known:
            del self._subjects[subject]


class ContributionCache(TopicCache[PartitionContributions]):
    """The contributions in the partitions of this process."""

    def new(self) -> PartitionContributions:
        return PartitionContributions()
