"""Record headers in the form of Kafka's clients. `topics.headers` declares what they mean, and on which records."""

from collections.abc import Iterable

from fhirline.topics import headers as contract

RECEIVED_AT = contract.RECEIVED_AT.name
TENANT = contract.TENANT.name
EVENT_KEY = contract.EVENT_KEY.name
EVENT_TYPE = contract.EVENT_TYPE.name
BODY_FLAGS = contract.BODY_FLAGS.name
VENDOR = contract.VENDOR.name
RAW = contract.RAW.name
MAPPING_VERSION = contract.MAPPING_VERSION.name
TABLES_VERSION = contract.TABLES_VERSION.name
OCCURRED_AT = contract.OCCURRED_AT.name
ERROR_CODE = contract.ERROR_CODE.name
ERROR_PATH = contract.ERROR_PATH.name
ERRORS = contract.ERRORS.name
ATTEMPT = contract.ATTEMPT.name
RAW_TIMESTAMP = contract.RAW_TIMESTAMP.name
FIRST_RAW = contract.FIRST_RAW.name
REDRIVE = contract.REDRIVE.name
KEY_ID = contract.KEY_ID.name
COPY_OF = contract.COPY_OF.name
MOVED_TO = contract.MOVED_TO.name
TRACEPARENT = contract.TRACEPARENT.name

Headers = list[tuple[str, bytes]]


def headers(**values: str) -> Headers:
    """Build headers from keywords; ``_`` in a name becomes ``-``."""
    return [(name.replace("_", "-"), value.encode()) for name, value in values.items()]


def header(sent: Iterable[tuple[str, bytes | None]] | None, name: str) -> str | None:
    """Return the last value of a header as text; None where it is missing, empty or not UTF-8."""
    found = None
    for key, value in sent or ():
        if key == name and value:
            try:
                found = value.decode()
            except UnicodeDecodeError:
                found = None
    return found
