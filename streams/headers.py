"""Record headers: their names are a contract (README), their values UTF-8 text and never clinical."""

from collections.abc import Iterable

RECEIVED_AT = "received-at"
TENANT = "tenant"
EVENT_KEY = "event-key"
EVENT_TYPE = "event-type"
VENDOR = "vendor"
RAW = "raw"
MAPPING_VERSION = "mapping-version"
OCCURRED_AT = "occurred-at"
ERROR_CODE = "error-code"
ERROR_PATH = "error-path"
ERRORS = "errors"
ATTEMPT = "attempt"
RAW_TIMESTAMP = "raw-timestamp"
FIRST_RAW = "first-raw"
"""Of a redriven raw record, and on into its letter: where the raw record lies that was mapped first."""
REDRIVE = "redrive"
"""Of a redriven raw record, and on into its letter: the idempotency key of the redrive."""

Headers = list[tuple[str, bytes]]


def headers(**values: str) -> Headers:
    """Headers from keywords, ``_`` in a name standing for ``-``."""
    return [(name.replace("_", "-"), value.encode()) for name, value in values.items()]


def header(of: Iterable[tuple[str, bytes | None]] | None, name: str) -> str | None:
    """The last value of a header as text; None where it is missing, empty or not UTF-8."""
    found = None
    for key, value in of or ():
        if key == name and value:
            try:
                found = value.decode()
            except UnicodeDecodeError:
                found = None
    return found
