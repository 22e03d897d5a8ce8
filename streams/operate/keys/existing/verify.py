"""Counts and digests of records and their copies.

A partition's digest is the sum, modulo 2**256, of the SHA-256 digests of its records. It does not depend on their
order, and each record's digest includes its position: for a copy, the position that it names.

Any producer can write the header ``copy-of``. A copy of ours is encrypted with a data key of this deployment, which
authenticates the header. A record that nobody can open, or that cannot be encrypted, is equal to its copy. Other
records with the header are passed over.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from fhirline.config.errors import KafkaAccessError
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.keys.existing.copying import Copier, OriginalRecord
from fhirline.streams.operate.keys.existing.survey import OffsetSet, Partitions, read

BATCH = 2_000
MODULUS = 1 << 256
_LENGTH = struct.Struct(">q")


class CopiesDiffer(KafkaAccessError):
    """Copies are missing, or differ from their records. Nothing was removed."""


@dataclass(slots=True)
class Sum:
    """A number of records and their digest."""

    records: int = 0
    digest: int = 0

    def add(self, digest: bytes) -> None:
        self.records += 1
        self.digest = (self.digest + int.from_bytes(digest)) % MODULUS

    @property
    def shown(self) -> str:
        return self.digest.to_bytes(32).hex()


@dataclass(slots=True)
class Verified:
    """The counts and digests of one partition."""

    records: Sum = field(default_factory=Sum)
    copies: Sum = field(default_factory=Sum)
    left_out: int = 0
    """Records of erased patients, which need no copy."""
    settled: OffsetSet = field(default_factory=OffsetSet)
    """Offsets that have a copy, or need none."""
    _equal: dict[int, bytes] = field(default_factory=dict)
    """Offset → digest of a record that is copied as it is."""

    def take_record(self, offset: int, digest: bytes, as_it_is: bool) -> None:
        self.records.add(digest)
        if as_it_is:
            self._equal[offset] = digest

    def take_copy(self, offset: int, digest: bytes, authentic: bool) -> None:
        """Count a copy of this offset, unless it is another producer's. ``authentic``: encrypted by this deployment."""
        if (authentic or self._equal.get(offset) == digest) and self.first_copy(offset):
            self.copies.add(digest)

    def first_copy(self, offset: int) -> bool:
        """Tell whether a copy of this offset is to be counted. A killed run may have written one twice."""
        if offset in self.settled:
            return False
        self.settled.add(offset)
        return True


def verify(scanner: LogScanner, copier: Copier, partitions: Partitions) -> dict[TopicPartition, Verified]:
    """Compare all records that are to be removed with their copies. Raises CopiesDiffer."""
    chosen = {partition: item for partition, item in partitions.items() if item.cut > item.first}
    found = {partition: Verified() for partition in chosen}
    firsts: dict[TopicPartition, int | None] = {partition: item.first for partition, item in chosen.items()}
    for batch in batches(read(scanner, firsts)):
        for stored, item in zip(batch, copier.originals(batch), strict=True):
            chosen_partition, sums = chosen[stored.topic_partition], found[stored.topic_partition]
            if stored.offset < chosen_partition.cut:
                if item is None:
                    sums.left_out += sums.first_copy(stored.offset)
                else:
                    as_it_is = not item.opened or not (is_sealed(stored) or copier.sealable(stored))
                    sums.take_record(stored.offset, _digest(stored.offset, item, copier), as_it_is)
            source = chosen_partition.take_copy(stored)
            if source is None or item is None:
                continue
            if not chosen_partition.first <= source.offset < chosen_partition.cut:
                continue
            authentic = item.record.data_key is not None
            sums.take_copy(source.offset, _digest(source.offset, item, copier), authentic)
    wrong = [
        f"{partition}: {counted(sums.records.records, 'record')}, {counted(sums.copies.records, 'copy', 'copies')}"
        + (", and their digests differ" if sums.records.records == sums.copies.records else "")
        for partition, sums in sorted(found.items())
        if sums.records != sums.copies
    ]
    for partition, sums in found.items():
        partitions[partition].copied = sums.settled  # what is missing is copied when this is tried again
    if wrong:
        raise CopiesDiffer(f"{'; '.join(wrong[:5])}: nothing was removed; run this again")
    return found


def batches(records: Iterator[ConsumerRecord], size: int = BATCH) -> Iterator[list[ConsumerRecord]]:
    while batch := list(islice(records, size)):
        yield batch


def _digest(offset: int, item: OriginalRecord, copier: Copier) -> bytes:
    record, headers = item.record, copier.moved.back(item.headers)
    found = hashlib.sha256(_LENGTH.pack(offset))
    parts = [record.key or b"", record.value, *(part for name, sent in headers for part in (name.encode(), sent))]
    for part in parts:
        found.update(_LENGTH.pack(-1 if part is None else len(part)))
        found.update(part or b"")
    return found.digest()
