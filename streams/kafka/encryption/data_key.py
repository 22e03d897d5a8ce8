"""One data key: it seals a record of one patient, and opens it again.

A sealed record has as its key the patient's index (a keyed hash), for state with a keyed hash of the entry's name; a
header ``key-id``; and as its value a version, a nonce, and the encrypted key and value. Topic, key and headers are
authenticated, so that none of them can be exchanged.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhirline.config.errors import FhirlineError
from fhirline.streams.kafka.encryption.secrets import NONCE, EncryptionSecrets
from fhirline.streams.kafka.headers import KEY_ID, TRACEPARENT, Headers
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import KEYS, STATE_PREFIX

VERSION = b"\x01"
_LENGTH = struct.Struct(">I")
_UNAUTHENTICATED = (KEY_ID, TRACEPARENT)
"""Headers that are not authenticated: the first follows from the key that opens, tracing changes the second."""


class CannotBeOpened(FhirlineError):
    """The value of a record is not what was sealed: it, its topic, its key or its headers were changed."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key of the patient with this index. ``number`` is the header ``key-id`` of what it seals."""

    secrets: EncryptionSecrets
    index: str
    number: str
    key: bytes = field(repr=False)
    _cipher: AESGCM = field(repr=False, compare=False)

    @classmethod
    def of(cls, secrets: EncryptionSecrets, index: str, number: str, key: bytes) -> "DataKey":
        return cls(secrets, index, number, key, AESGCM(key))

    @classmethod
    def new(
        cls, secrets: EncryptionSecrets, index: str, partition: int, unused: "UnusedKeys | None" = None
    ) -> "DataKey":
        """Make a random key for a partition of ``normalizer.keys``. It may be used once `record` is durable there.

        ``unused``: where it is taken from.
        """
        number = secrets.new_number(index, partition)
        if unused is None:
            return cls.of(secrets, index, number, AESGCM.generate_key(256))
        return cls(secrets, index, number, *unused.take())

    @property
    def name(self) -> str:
        """Return the key of the data key's record in ``normalizer.keys``."""
        return f"{self.index}/{self.number}"

    def record(self, partition: int) -> ProducerRecord:
        """Return the data key's record in ``normalizer.keys``, wrapped."""
        return ProducerRecord(KEYS, self.name.encode(), self.secrets.wrap(self.name, self.key), partition)

    def seal(self, record: ProducerRecord) -> ProducerRecord:
        """Return the record as Kafka gets it. A tombstone of state keeps its null value."""
        key, value, headers = self.sealed(record)
        return ProducerRecord(record.topic, key, value, record.partition, headers, record.timestamp_ms)

    def sealed(self, record: ProducerRecord) -> tuple[bytes, bytes | None, Headers]:
        """Return key, value and headers of the record as Kafka gets it."""
        if record.topic.startswith(STATE_PREFIX):
            _, subject, name = orjson.loads(record.key)
            key = state_key(self.secrets, self.index, subject, name)
            if record.value is None:
                return key, None, record.headers
        else:
            key = self.index.encode()
        nonce = os.urandom(NONCE)
        plain = _LENGTH.pack(len(record.key)) + record.key + (b"\0" if record.value is None else b"\1" + record.value)
        sealed = self._cipher.encrypt(nonce, plain, _authenticated(record.topic, key, record.headers))
        return key, VERSION + nonce + sealed, [*record.headers, (KEY_ID, self.number.encode())]

    def open(self, topic: str, key: bytes, value: bytes, headers: Headers) -> tuple[bytes, bytes | None]:
        """Return the key and the value that were sealed. Raises CannotBeOpened."""
        if value[:1] != VERSION:
            raise CannotBeOpened("unknown version")
        at = len(VERSION) + NONCE
        try:
            plain = self._cipher.decrypt(value[len(VERSION) : at], value[at:], _authenticated(topic, key, headers))
        except (InvalidTag, ValueError):
            raise CannotBeOpened("not authentic") from None
        length = int.from_bytes(plain[: _LENGTH.size])
        end = _LENGTH.size + length
        if len(plain) <= end:
            raise CannotBeOpened("sealed by another program")
        return plain[_LENGTH.size : end], plain[end + 1 :] if plain[end] else None


class UnusedKeys:
    """Random keys in memory, made several at once: one made between other work takes longer."""

    AT_ONCE = 64

    def __init__(self) -> None:
        self._held: list[tuple[bytes, AESGCM]] = []

    def take(self) -> tuple[bytes, AESGCM]:
        """Return a key that was never returned before, and its cipher."""
        if not self._held:
            keys = [AESGCM.generate_key(256) for _ in range(self.AT_ONCE)]
            self._held = [(key, AESGCM(key)) for key in keys]
        return self._held.pop()


def state_key(secrets: EncryptionSecrets, index: str, subject: str, name: str) -> bytes:
    """Return the key of a sealed state entry's record."""
    return f"{index}/{secrets.state_name(subject, name)}".encode()


def _authenticated(topic: str, key: bytes, headers: Iterable[tuple[str, bytes]]) -> bytes:
    """Encode the parts that a sealed value is bound to. Each begins with its length, so the bytes have one reading."""
    pack = _LENGTH.pack
    found = _text(topic) + pack(len(key)) + key
    for name, value in headers:
        if name not in _UNAUTHENTICATED:
            found += _text(name) + pack(len(value)) + value
    return found


@lru_cache(maxsize=1024)
def _text(part: str) -> bytes:
    """Encode a topic or the name of a header, of which there are few."""
    encoded = part.encode()
    return _LENGTH.pack(len(encoded)) + encoded
