"""Record headers. Their names and formats are a contract (docs/contracts.md); values are UTF-8 text, never clinical.

A record's topic determines its headers: `RAW_RECORD`, `CANONICAL_RECORD` or `DEAD_LETTER`. Records of internal topics
have none, but for contributions to a Practitioner, which have those that the Practitioner gets, and for encrypted state
entries. An encrypted record (docs/encryption.md) also has ``key-id``.
"""

from dataclasses import dataclass

from fhirline.config.vendors import SLUG

_INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$"
COORDINATES = r"^[a-zA-Z0-9._-]+/[0-9]+/[0-9]+$"
"""``topic/partition/offset``."""
DIGEST = r"^[0-9a-f]{64}$"


@dataclass(frozen=True, slots=True)
class Header:
    """A header. Its value matches the regular expression ``pattern``."""

    name: str
    pattern: str
    description: str


RECEIVED_AT = Header("received-at", _INSTANT, "when the gateway received the event, RFC 3339")
TENANT = Header("tenant", SLUG, "the vendor's tenant; default if missing")
EVENT_KEY = Header(
    "event-key", DIGEST, "SHA-256 of the event's redacted body in canonical form; equal events have equal keys"
)
EVENT_TYPE = Header(
    "event-type", "^.+$", "a known event type of the vendor, or unknown; never other text of the payload"
)
BODY_FLAGS = Header(
    "body-flags",
    "^[a-z]+(-[a-z]+)*(,[a-z]+(-[a-z]+)*)*$",
    "flags of how the body was read (mapping.md §2.5), comma-separated; missing if there are none",
)
VENDOR = Header("vendor", "^[a-z0-9_-]+$", "the vendor of the event")
RAW = Header("raw", COORDINATES, "topic/partition/offset of the raw record that was mapped")
MAPPING_VERSION = Header("mapping-version", "^.+$", "version of the mapping that made the record")
TABLES_VERSION = Header(
    "tables-version",
    "^[0-9a-f]{16}$",
    "digest of the tables that the record was made with, a deployment's own rows included; missing on records of "
    "releases before this header, and where no table was read",
)
OCCURRED_AT = Header(
    "occurred-at", _INSTANT, "the time that versions are compared by, RFC 3339; the greatest version stays"
)
ERROR_CODE = Header("error-code", "^[a-z]+(-[a-z]+)*$", "stable code of the error (docs/dead-letters.md)")
ERROR_PATH = Header(
    "error-path", "^.*$", "place of the error: a path in the resource, a topic, or file and line; never a value"
)
ERRORS = Header("errors", r"^\[.*\]$", "JSON array of errors: code, resource, path, problem; never a value")
ATTEMPT = Header("attempt", "^[1-9][0-9]*$", "number of times that the event has been mapped, this one included")
RAW_TIMESTAMP = Header("raw-timestamp", "^-?[0-9]+$", "timestamp of the raw record, UNIX milliseconds")
FIRST_RAW = Header("first-raw", COORDINATES, "redriven events only: the raw record that was mapped first")
REDRIVE = Header("redrive", "^.+$", "redriven events only: idempotency key of the redrive")
KEY_ID = Header(
    "key-id",
    "^[0-9a-f]{32}$",
    "encrypted records only: which of the patient's data keys the value is encrypted with (docs/encryption.md)",
)
COPY_OF = Header(
    "copy-of",
    COORDINATES,
    "encrypted copies only: position of the record that `fhirline keys encrypt-existing` copied, which it removes",
)
MOVED_TO = Header(
    "moved-to",
    "^.+$",
    "tombstones of state entries only: key of the record that has the entry now, encrypted; the entry is not deleted",
)
TRACEPARENT = Header("traceparent", "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", "W3C trace context, if tracing is on")


@dataclass(frozen=True, slots=True)
class HeaderSet:
    """The headers of one kind of record."""

    name: str
    required: tuple[Header, ...]
    optional: tuple[Header, ...]

    @property
    def all(self) -> tuple[Header, ...]:
        return (*self.required, *self.optional)


RAW_RECORD = HeaderSet(
    "Raw", (), (RECEIVED_AT, TENANT, EVENT_KEY, EVENT_TYPE, BODY_FLAGS, ATTEMPT, FIRST_RAW, REDRIVE, TRACEPARENT)
)
"""All are optional, since records of other producers have none."""
CANONICAL_RECORD = HeaderSet(
    "Canonical",
    (VENDOR, TENANT, EVENT_TYPE, RAW, MAPPING_VERSION, EVENT_KEY, OCCURRED_AT),
    (TABLES_VERSION, TRACEPARENT),
)
ENCRYPTED_RAW = HeaderSet("EncryptedRaw", (KEY_ID,), (*RAW_RECORD.optional, COPY_OF))
DEAD_LETTER = HeaderSet(
    "DeadLetter",
    (VENDOR, RAW, MAPPING_VERSION, ERROR_CODE, ERROR_PATH, ERRORS, RAW_TIMESTAMP, ATTEMPT),
    (RECEIVED_AT, TENANT, EVENT_TYPE, EVENT_KEY, BODY_FLAGS, FIRST_RAW, REDRIVE, TABLES_VERSION, COPY_OF, TRACEPARENT),
)
ENCRYPTED_DEAD_LETTER = HeaderSet("EncryptedDeadLetter", (*DEAD_LETTER.required, KEY_ID), DEAD_LETTER.optional)
STATE = HeaderSet("State", (), (MOVED_TO,))
ENCRYPTED_STATE = HeaderSet("EncryptedState", (), (KEY_ID,))
"""A tombstone has none."""
BUNDLE = Header("bundle", COORDINATES, "topic/partition/offset of the Bundle; none where a fill was refused")
DELIVERY_LETTER = HeaderSet("DeliveryLetter", (ERROR_CODE,), (BUNDLE, VENDOR, TENANT, EVENT_KEY))
