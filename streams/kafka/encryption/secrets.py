"""The deployment's encryption secrets: the index secret, and the key-encryption keys (KEK) by their ids.

``FHIRLINE_ENCRYPTION`` or its file holds one entry per word, ``id:64 hex digits``::

    index:5f1c… 2026-11:9a04… 2026-05:77d2…

``index`` never changes, because the keys of records are made with it. Of the others the first wraps new data keys, and
all unwrap. So a new one is appended and given to every process, and only then moved to the front.
"""

import base64
import hashlib
import hmac
import os
import re
from binascii import b2a_base64
from dataclasses import dataclass, field
from functools import lru_cache

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import secret
from fhirline.config.settings import Settings

INDEX = "index"
INDEX_DIGITS = 64
"""Hex digits of an index."""

KEY_BYTES = 32
"""Bytes of a data key."""

NONCE = 12
"""Bytes of an AES-GCM nonce. All are random: each key encrypts far fewer than 2**32 values."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_ENTRY = re.compile(r"([a-z0-9][a-z0-9._-]{0,31}):([0-9a-f]{64})")
_HOW = (
    "write one `index:…` and at least one key-encryption key, each as id:64 hex digits. `fhirline keys new` makes them "
    "for a new deployment only: where events are encrypted, restore them from their backup (docs/operations.md, a "
    "key-encryption key is lost)"
)


class WrappingKeyMissing(ConfigurationError):
    """A data key is wrapped by a key-encryption key that this process does not have, or that has another value."""


class DataKeyDamaged(WrappingKeyMissing):
    """The record of a data key is not of the form that `EncryptionSecrets.wrap` makes: something else was written."""


@dataclass(frozen=True, slots=True)
class EncryptionSecrets:
    """The secrets of a deployment. ``keks``: id → key of 32 bytes; the first wraps new data keys."""

    index_secret: bytes = field(repr=False)
    keks: dict[str, bytes] = field(repr=False)

    @property
    def current(self) -> str:
        """Return the id of the key-encryption key that wraps new data keys."""
        return next(iter(self.keks))

    @property
    def text(self) -> str:
        """Return the secrets as the file has them."""
        entries = {INDEX: self.index_secret, **self.keks}
        return " ".join(f"{name}:{key.hex()}" for name, key in entries.items()) + "\n"

    def index(self, patient: str) -> str:
        """Return the keyed hash by which the records of a ``vendor|tenant|patient key`` are found: 64 hex digits."""
        return _keyed_hash(self.index_secret, b"patient|" + patient.encode()).hex()

    def state_name(self, subject: str, name: str) -> str:
        """Return the keyed hash that replaces the name of a state entry in the key of its record: 32 hex digits."""
        plain = b"state|" + orjson.dumps([subject, name])
        return _keyed_hash(self.index_secret, plain)[:16].hex()

    def new_number(self, index: str, partition: int) -> str:
        """Make the number of a new data key: 8 random bytes and 8 of a keyed hash, as hex digits.

        ``partition``: that of ``normalizer.keys`` in which the key's record is to lie.
        """
        number = os.urandom(8).hex()
        return number + self._mark(index, partition, number)

    def numbered(self, index: str, partition: int, number: str) -> bool:
        """Tell whether `new_number` of this deployment made the number for this index and partition.

        So the number of a key that is lost is told from one that somebody wrote into a header, and from that of a
        record that was copied to another partition.
        """
        return hmac.compare_digest(number[16:].encode(), self._mark(index, partition, number[:16]).encode())

    def wrap(self, name: str, key: bytes) -> bytes:
        """Return the value of the record ``name`` in ``normalizer.keys``: the key, wrapped by the current KEK."""
        nonce = os.urandom(NONCE)
        wrapped = nonce + _cipher(self.keks[self.current]).encrypt(nonce, key, name.encode())
        return orjson.dumps({"kek": self.current, "key": b2a_base64(wrapped, newline=False).decode()})

    def unwrap(self, name: str, value: bytes) -> bytes:
        """Reverse `wrap`. Raises WrappingKeyMissing, and DataKeyDamaged where the value has another form."""
        kek = wrapped_by(value)
        if not kek:
            raise _damaged(name)
        if kek not in self.keks:
            raise WrappingKeyMissing(
                f"FHIRLINE_ENCRYPTION: the key-encryption key {kek} is missing, which data keys in normalizer.keys are "
                "wrapped by: restore it from its backup (docs/operations.md, a "
                "key-encryption key is lost)"
            )
        try:
            wrapped = base64.b64decode(orjson.loads(value)["key"], validate=True)
            key = _cipher(self.keks[kek]).decrypt(wrapped[:NONCE], wrapped[NONCE:], name.encode())
        except (ValueError, KeyError, TypeError):
            raise _damaged(name) from None
        except InvalidTag:
            raise WrappingKeyMissing(
                f"FHIRLINE_ENCRYPTION: the key-encryption key {kek} is another than the one that data keys in "
                "normalizer.keys are wrapped by: restore it from its backup (docs/operations.md, a "
                "key-encryption key is lost)"
            ) from None
        if len(key) != KEY_BYTES:
            raise _damaged(name)
        return key

    def _mark(self, index: str, partition: int, number: str) -> str:
        return _keyed_hash(self.index_secret, f"key|{index}|{partition}|{number}".encode())[:8].hex()


def _damaged(name: str) -> DataKeyDamaged:
    return DataKeyDamaged(
        f"normalizer.keys: the record of the data key {name.rpartition('/')[2]} has another form: restore the topic "
        "from its backup, or give the key up (docs/operations.md, a data key is lost)"
    )


def wrapped_by(value: bytes) -> str:
    """Return the id of the key-encryption key of a record in ``normalizer.keys``; empty where it has another form."""
    try:
        found = str(orjson.loads(value)["kek"])
    except (ValueError, KeyError, TypeError):
        return ""
    return found if _ID.fullmatch(found) else ""


def encryption(settings: Settings) -> EncryptionSecrets | None:
    """Read ``FHIRLINE_ENCRYPTION`` or its file; None where neither is set. Raises ConfigurationError."""
    held = secret(settings, "encryption")
    return None if held is None or not held.strip() else parse(held)


@lru_cache(maxsize=16)
def parse(text: str) -> EncryptionSecrets:
    """Read secrets from their text. Raises ConfigurationError, which quotes no secret."""
    found: dict[str, bytes] = {}
    for place, word in enumerate(text.split(), 1):
        entry = _ENTRY.fullmatch(word)
        if entry is None:
            raise ConfigurationError(f"FHIRLINE_ENCRYPTION: entry {place} is not of the form id:64 hex digits; {_HOW}")
        name, key = entry.groups()
        if name in found:
            raise ConfigurationError(f"FHIRLINE_ENCRYPTION: {name} is there twice")
        found[name] = bytes.fromhex(key)
    index_secret = found.pop(INDEX, None)
    if index_secret is None or not found:
        raise ConfigurationError(
            f"FHIRLINE_ENCRYPTION: {'no key-encryption key' if index_secret else 'no index'}; {_HOW}"
        )
    if len({index_secret, *found.values()}) <= len(found):
        raise ConfigurationError("FHIRLINE_ENCRYPTION: two entries have the same value; each needs its own")
    return EncryptionSecrets(index_secret, found)


@lru_cache(maxsize=64)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def _keyed_hash(key: bytes, message: bytes) -> bytes:
    """Compute HMAC-SHA-256. `hmac.digest` would look the hash function up in OpenSSL again each time."""
    keyed = _begun(key).copy()
    keyed.update(message)
    return keyed.digest()


@lru_cache(maxsize=64)
def _begun(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod=hashlib.sha256)
