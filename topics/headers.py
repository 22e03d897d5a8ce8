"""Record headers. Names and forms are a contract (docs/contracts.md); values are UTF-8 text and never clinical.

Which headers a record bears follows from its topic: `RAW_RECORD`, `CANONICAL_RECORD` and `DEAD_LETTER`; records of
internal topics bear none.
"""

from dataclasses import dataclass

from fhirline.config.vendors import SLUG

_INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$"
COORDINATES = r"^[a-zA-Z0-9._-]+/[0-9]+/[0-9]+$"
"""``topic/partition/offset``."""
DIGEST = r"^[0-9a-f]{64}$"


@dataclass(frozen=True, slots=True)
class Header:
    """A header: ``pattern`` is a regular expression that its value matches."""

    name: str
    pattern: str
    description: str


RECEIVED_AT = Header("received-at", _INSTANT, "when the gateway received the event, RFC 3339")
TENANT = Header("tenant", SLUG, "the vendor's tenant; without it: default")
EVENT_KEY = Header("event-key", DIGEST, "SHA-256 of the event's redacted body in canonical form: equal events, one key")
EVENT_TYPE = Header("event-type", "^.+$", "the vendor's event type, or unknown; never other text of the payload")
VENDOR = Header("vendor", "^[a-z0-9_-]+$", "whose event it is")
RAW = Header("raw", COORDINATES, "the raw record it was made from: topic/partition/offset")
MAPPING_VERSION = Header("mapping-version", "^.+$", "version of the mapping that made it")
OCCURRED_AT = Header("occurred-at", _INSTANT, "the time by which it is ordered, RFC 3339: the greatest one stays")
ERROR_CODE = Header("error-code", "^[a-z]+(-[a-z]+)*$", "stable code of what went wrong (docs/dead-letters.md)")
ERROR_PATH = Header("error-path", "^.*$", "where: a path in the resource, a topic, or file and line; never a value")
ERRORS = Header("errors", r"^\[.*\]$", "JSON array of what went wrong: code, resource, path, problem; never a value")
ATTEMPT = Header("attempt", "^[1-9][0-9]*$", "how often the event has been mapped, this time counted")
RAW_TIMESTAMP = Header("raw-timestamp", "^-?[0-9]+$", "timestamp of the raw record, UNIX milliseconds")
FIRST_RAW = Header("first-raw", COORDINATES, "of a redriven event: the raw record that was mapped first")
REDRIVE = Header("redrive", "^.+$", "of a redriven event: the idempotency key of the redrive")
TRACEPARENT = Header("traceparent", "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", "W3C trace context, if traces are on")


@dataclass(frozen=True, slots=True)
class HeaderSet:
    """The headers of a kind of records."""

    name: str
    required: tuple[Header, ...]
    optional: tuple[Header, ...]

    @property
    def all(self) -> tuple[Header, ...]:
        return (*self.required, *self.optional)


RAW_RECORD = HeaderSet(
    "Raw", (), (RECEIVED_AT, TENANT, EVENT_KEY, EVENT_TYPE, ATTEMPT, FIRST_RAW, REDRIVE, TRACEPARENT)
)
"""All optional: records of other producers need none."""
CANONICAL_RECORD = HeaderSet(
    "Canonical", (VENDOR, TENANT, EVENT_TYPE, RAW, MAPPING_VERSION, EVENT_KEY, OCCURRED_AT), (TRACEPARENT,)
)
DEAD_LETTER = HeaderSet(
    "DeadLetter",
    (VENDOR, RAW, MAPPING_VERSION, ERROR_CODE, ERROR_PATH, ERRORS, RAW_TIMESTAMP, ATTEMPT),
    (RECEIVED_AT, TENANT, EVENT_TYPE, EVENT_KEY, FIRST_RAW, REDRIVE, TRACEPARENT),
)
