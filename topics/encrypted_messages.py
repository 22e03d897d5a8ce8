"""The records of encrypted events, dead letters and state entries, and of ``normalizer.keys`` (docs/encryption.md)."""

from fhirline.topics.headers import ENCRYPTED_DEAD_LETTER, ENCRYPTED_RAW, ENCRYPTED_STATE
from fhirline.topics.message import NO_HEADERS, Message, Schema, text

BYTES = "application/octet-stream"
_INDEX = "[0-9a-f]{64}"
_INDEX_MEANS = "HMAC-SHA-256 of vendor|tenant|patient key with the index secret"
_ENCRYPTED: Schema = {
    "type": "string",
    "format": "binary",
    "description": "a byte 1, a nonce of 12 bytes, then AES-256-GCM of the plain record's key and value "
    "(docs/encryption.md)",
}
ENCRYPTED_EVENT = Message(
    "EncryptedEvent",
    "a RawEvent whose key and value are encrypted with a data key of its patient",
    text(f"^{_INDEX}$", _INDEX_MEANS),
    ENCRYPTED_RAW,
    _ENCRYPTED,
    BYTES,
)
ENCRYPTED_LETTER = Message(
    "EncryptedDeadLetter",
    "a DeadLetter whose key and value are encrypted with the data key of its event",
    text(f"^{_INDEX}$", _INDEX_MEANS),
    ENCRYPTED_DEAD_LETTER,
    _ENCRYPTED,
    BYTES,
)
ENCRYPTED_STATE_ENTRY = Message(
    "EncryptedStateEntry",
    "a StateEntry whose key and value are encrypted; null: erased",
    text(f"^{_INDEX}/[0-9a-f]{{32}}$", f"{_INDEX_MEANS}, and a keyed hash of subject and entry name"),
    ENCRYPTED_STATE,
    {**_ENCRYPTED, "type": ["string", "null"]},
    BYTES,
)
DATA_KEY = Message(
    "DataKey",
    "a data key of a patient, wrapped by a key-encryption key; null: destroyed",
    text(f"^{_INDEX}/[0-9a-f]{{32}}$", f"{_INDEX_MEANS}, and the key's number, which is the header key-id"),
    NO_HEADERS,
    {
        "type": ["object", "null"],
        "required": ["kek", "key"],
        "properties": {"kek": {"type": "string"}, "key": {"type": "string", "contentEncoding": "base64"}},
    },
)
DESTROYED_KEY = Message(
    "DestroyedKey",
    "time at which a data key, or all data keys of a patient, were destroyed; null: withdrawn",
    text(f"^{_INDEX}/([0-9a-f]{{32}}/destroyed|erased)$", "the data key's record key, or the patient's index"),
    NO_HEADERS,
    {
        "type": ["string", "null"],
        "pattern": rf"^\S+( {_INDEX})?$",
        "description": "RFC 3339; for another index of an erased patient, such as a survey's, also the patient's own",
    },
    "text/plain",
)
COPIED_PARTITION = Message(
    "CopiedPartition",
    "the offsets of a raw partition whose records `fhirline keys encrypt-existing` has copied behind them",
    text(r"^copied/[a-zA-Z0-9._-]+/[0-9]+$", "copied/topic/partition"),
    NO_HEADERS,
    {
        "type": "object",
        "required": ["from", "to"],
        "properties": {"from": {"type": "integer"}, "to": {"type": "integer", "description": "exclusive"}},
    },
)
