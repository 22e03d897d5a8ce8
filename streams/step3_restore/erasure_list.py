"""The erasure list: keyed hashes of the patients whose data was erased, as in ``normalizer.erased`` (mapping.md §3.5).

A patient's key is often a short number, whose plain hash could be found by trying all numbers. The list holds
HMAC-SHA-256 hashes under a secret of the deployment instead. Whoever reads the topic without the secret learns how many
patients were erased, and nothing else. The price is that the secret is needed for as long as the list is in force: a
process that reads a hash made with another secret cannot tell who is erased, so it must not map anything.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import secret
from fhirline.config.settings import Settings
from fhirline.mappers.identity import escape_part, key
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.registry import partition_key
from fhirline.streams.observe.terminal import counted
from fhirline.topics.partition import LONGEST_CACHED

SHORTEST = 32
"""The least number of characters of the secret: 128 bits in hex."""

ERASURE = "erasure"
"""Header ``event-type`` of the records that an erasure itself writes."""

HOW = (
    "make one with `openssl rand -hex 32`, give it to workers, enrichment and operators' commands, and keep it: it "
    "cannot be changed later"
)


class OtherKey(ConfigurationError):
    """The erasure list was made with another secret than this process has, or this process has none."""


@dataclass(frozen=True, slots=True)
class Compartment:
    """A patient of one vendor and tenant, by the vendor's own key, escaped (mapping.md §2)."""

    vendor: str
    tenant: str
    key: str

    @classmethod
    def of(cls, vendor: str, tenant: str, *parts: str) -> "Compartment":
        return cls(vendor, tenant, key(*parts))

    @property
    def raw_key(self) -> str:
        """Return the raw key of the patient's events (`mappers.registry.raw_key`)."""
        return f"{escape_part(self.tenant)}|{self.key}"

    @property
    def partition_key(self) -> str:
        return f"{self.vendor}|{self.raw_key}"


@dataclass(frozen=True, slots=True)
class Hashing:
    """The deployment's secret, and the hashes made with it."""

    secret: bytes

    def digest(self, partition_key: str) -> str:
        """Return the key of a patient's record in ``normalizer.erased``: 64 hex digits."""
        return hmac.new(self.secret, b"patient|" + partition_key.encode(), hashlib.sha256).hexdigest()

    @property
    def check(self) -> str:
        """Return a hash that is the same for every process with the same secret; each record contains it."""
        return hmac.new(self.secret, b"check", hashlib.sha256).hexdigest()[:16]

    @property
    def mark(self) -> str:
        """Return a hash, 8 hex digits, by which running processes show that they have the same secret."""
        return hmac.new(self.secret, b"mark", hashlib.sha256).hexdigest()[:8]


def hashing(settings: Settings) -> Hashing | None:
    """Read the secret of ``FHIRLINE_ERASURE_KEY`` or its file; None where neither is set. Raises ConfigurationError."""
    held = (secret(settings, "erasure_key") or "").strip()
    if held and len(held) < SHORTEST:
        raise ConfigurationError(f"FHIRLINE_ERASURE_KEY: shorter than {SHORTEST} characters; {HOW}")
    return Hashing(held.encode()) if held else None


@dataclass(frozen=True, slots=True)
class Block:
    """The value of a record in ``normalizer.erased``. ``at`` is when the patient was first blocked, RFC 3339.

    ``of``: for a block of another key of the patient, such as a survey's, the digest of the patient's own key.
    """

    check: str
    at: str
    of: str | None = None

    def encode(self) -> bytes:
        held = {"check": self.check, "at": self.at}
        return orjson.dumps(held if self.of is None else {**held, "of": self.of})

    @classmethod
    def decode(cls, value: bytes) -> "Block":
        held = orjson.loads(value)
        return cls(held["check"], held["at"], held.get("of"))


class ErasureList:
    """The patients that are erased, as far as the topic has been read."""

    def __init__(self, hashing: Hashing | None) -> None:
        self._hashing = hashing
        self._blocks: dict[str, Block] = {}
        self.applied = 0
        """Records of the topic so far."""
        self._recent = lru_cache(maxsize=65_536)(hashing.digest) if hashing else None

    def __len__(self) -> int:
        return len(self._blocks)

    def apply(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Apply records of the topic (key, value), in their order. Raises OtherKey."""
        for digest, value in records:
            self.applied += 1
            if value is None:
                self._blocks.pop(digest.decode(), None)
            else:
                self._blocks[digest.decode()] = Block.decode(value)
        self._require_the_key()

    @property
    def fingerprint(self) -> str:
        """Return a hash of the whole list, which is equal as long as the same patients are erased."""
        return hashlib.sha256("".join(sorted(self._blocks)).encode()).hexdigest()[:16]

    def block(self, compartment: Compartment) -> Block | None:
        """Return the patient's block, or None."""
        return self._blocks.get(self._digest(compartment.partition_key))

    def others(self, digest: str) -> list[str]:
        """Return the digests of the other keys of the patient with this digest that are blocked."""
        return sorted(other for other, block in self._blocks.items() if block.of == digest)

    def blocks(self, envelope: Envelope) -> bool:
        """Tell whether the event's patient is erased, at no cost while the list is empty."""
        return bool(self._blocks) and self.blocks_key(partition_key(envelope))

    def blocks_key(self, partition_key: str) -> bool:
        """Tell whether the patient with this ``vendor|tenant|patient key`` is erased."""
        return bool(self._blocks) and self._digest(partition_key) in self._blocks

    def _digest(self, partition_key: str) -> str:
        """Return the hash of a patient's key; an empty text without a secret. Long keys would fill the cache."""
        if self._hashing is None or self._recent is None:
            return ""
        return (self._recent if len(partition_key) <= LONGEST_CACHED else self._hashing.digest)(partition_key)

    def _require_the_key(self) -> None:
        if not self._blocks:
            return
        if self._hashing is None:
            raise OtherKey(
                f"FHIRLINE_ERASURE_KEY: normalizer.erased has erased patients ({len(self)}), and without the key they "
                "were erased with their events would be mapped again: set it, or FHIRLINE_ERASURE_KEY_FILE"
            )
        if others := sum(block.check != self._hashing.check for block in self._blocks.values()):
            were = "was" if others == 1 else "were"
            raise OtherKey(
                f"FHIRLINE_ERASURE_KEY: {others} of {counted(len(self), 'patient')} {were} erased under another key; "
                "without that key their events would be mapped again: set the one that `fhirline forget` had"
            )
