"""Who is erased: keyed hashes of patient keys in ``normalizer.erased`` (mapping.md §3.5).

A patient's key is often short (a number), so that a plain hash of it could be guessed by trying them all. HMAC-SHA-256
under a secret of the deployment cannot: whoever reads the topic without the secret learns how many were erased, and
nothing else. The price: the secret is needed for as long as the blocks are to hold. So a process that meets a block
and has not the secret it was made with must not map anything: it could not tell an erased patient from another.
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

SHORTEST = 32
"""Characters of the secret at least: hex of 128 bits."""

HOW = "make one with `openssl rand -hex 32`, give it to every process, and keep it: it cannot be changed later"


class OtherKey(ConfigurationError):
    """Blocks were made with another key than this process has, or it has none."""


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
        """As `mappers.registry.raw_key` makes it of the patient's events."""
        return f"{escape_part(self.tenant)}|{self.key}"

    @property
    def partition_key(self) -> str:
        return f"{self.vendor}|{self.raw_key}"


@dataclass(frozen=True, slots=True)
class Hashing:
    """The deployment's secret, applied."""

    secret: bytes

    def digest(self, partition_key: str) -> str:
        """The key of a patient's record in ``normalizer.erased``: 64 hex digits."""
        return hmac.new(self.secret, b"patient|" + partition_key.encode(), hashlib.sha256).hexdigest()

    @property
    def check(self) -> str:
        """Tells whether two processes have the same secret; stands in every record."""
        return hmac.new(self.secret, b"check", hashlib.sha256).hexdigest()[:16]


def hashing(settings: Settings) -> Hashing | None:
    """The secret of ``FHIRLINE_ERASURE_KEY`` or its file; None where neither is set. Raises ConfigurationError."""
    held = (secret(settings, "erasure_key") or "").strip()
    if held and len(held) < SHORTEST:
        raise ConfigurationError(f"FHIRLINE_ERASURE_KEY: shorter than {SHORTEST} characters; {HOW}")
    return Hashing(held.encode()) if held else None


@dataclass(frozen=True, slots=True)
class Block:
    """The value of a record in ``normalizer.erased``. ``at`` is when the patient was first blocked, RFC 3339."""

    check: str
    at: str

    def encode(self) -> bytes:
        return orjson.dumps({"check": self.check, "at": self.at})

    @classmethod
    def decode(cls, value: bytes) -> "Block":
        held = orjson.loads(value)
        return cls(held["check"], held["at"])


class Erased:
    """The blocks as far as they have been read. ``read`` takes the topic's records in their order."""

    def __init__(self, hashing: Hashing | None) -> None:
        self._hashing = hashing
        self._blocks: dict[str, Block] = {}
        self._digest = lru_cache(maxsize=65_536)(hashing.digest) if hashing else None

    def __len__(self) -> int:
        return len(self._blocks)

    def read(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take in records of the topic, in their order. Raises OtherKey."""
        for digest, value in records:
            if value is None:
                self._blocks.pop(digest.decode(), None)
            else:
                self._blocks[digest.decode()] = Block.decode(value)
        self._require_the_key()

    @property
    def fingerprint(self) -> str:
        """Tells whether the same patients are erased as at another time."""
        return hashlib.sha256("".join(sorted(self._blocks)).encode()).hexdigest()[:16]

    def block(self, compartment: Compartment) -> Block | None:
        """The patient's block, if there is one."""
        return self._blocks.get(self._digest(compartment.partition_key)) if self._digest else None

    def blocks(self, envelope: Envelope) -> bool:
        """Whether the event's patient is erased. Costs nothing where nobody is."""
        return bool(self._blocks) and self.blocks_key(partition_key(envelope))

    def blocks_key(self, partition_key: str) -> bool:
        """The same, of a patient whose ``vendor|tenant|patient key`` is known."""
        return bool(self._blocks and self._digest and self._digest(partition_key) in self._blocks)

    def _require_the_key(self) -> None:
        if not self._blocks:
            return
        if self._hashing is None:
            raise OtherKey(
                f"FHIRLINE_ERASURE_KEY: {len(self)} patients are erased (normalizer.erased), and without the key they "
                "were erased with their events would be mapped again: set it, or FHIRLINE_ERASURE_KEY_FILE"
            )
        if others := sum(each.check != self._hashing.check for each in self._blocks.values()):
            raise OtherKey(
                f"FHIRLINE_ERASURE_KEY: {others} of {len(self)} patients were erased under another key; without that "
                "key their events would be mapped again: set the one that `fhirline forget` had"
            )
