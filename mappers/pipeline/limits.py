"""Limits of what one event may become, and the values that were cut to stay within them (mapping.md §1.1)."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.mappers.pipeline.envelope import canonical

MAX_STRING = 1_048_576
"""Characters of a FHIR string at most (R4, datatypes)."""

MAX_SHOWN = 500
"""Characters of a pointer that an outcome, a flag or a ``source-data`` path shows."""

CONTENT_CUT, STRING_CUT, HISTORY_CUT = "content-cut", "string-cut", "history-cut"
"""Flags of what did not fit."""


class TooComplex(FhirlineError):
    """An event exceeds a limit with its clinical content alone. ``path`` is a JSON Pointer, or a resource type.

    The event becomes a dead letter with the code ``too-complex``. The message contains no value and no key.
    """

    def __init__(self, limit: str, path: str = "") -> None:
        super().__init__(f"the event exceeds the limit of {limit}, even without its documents and unread values")
        self.limit = limit
        self.path = path


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one event; settings ``FHIRLINE_MAX_…``.

    ``values``: leaves of the body that are read. ``items``: items of any list. ``resources``: resources made.
    ``bytes``: bytes of all resources together. ``kept``, ``kept_bytes``: number and bytes of the kept leaves of the
    Provenance. ``state``: state entries of one kind and subject.
    """

    values: int = 10_000
    items: int = 1_000
    resources: int = 2_000
    bytes: int = 16_777_216
    kept: int = 500
    kept_bytes: int = 1_048_576
    state: int = 1_000


class Cut(NamedTuple):
    """Values that were cut from an event: all at or below ``pointer`` that have no row of their own in the ledger.

    ``values``: number of leaves. ``size``: bytes of their canonical JSON. ``digest``: its SHA-256, in hex. ``start``:
    the position of the first item that was cut, where the first items of a list are left. ``read``: a mapping reads
    values there.
    """

    pointer: str
    values: int
    size: int
    digest: str
    start: int | None = None
    read: bool = False

    @property
    def text(self) -> str:
        """Return the entry as JSON, for the ``source-data`` of the Provenance."""
        start = {} if self.start is None else {"from": self.start}
        return orjson.dumps({"values": self.values, "bytes": self.size, "sha256": self.digest, **start}).decode()

    @property
    def words(self) -> str:
        """Return the entry in words, for the outcome."""
        start = "" if self.start is None else f", from item {self.start}"
        return f"{self.values} values, {self.size} bytes, SHA-256 {self.digest}{start}"


def cut(pointer: str, content: Any, values: int, start: int | None = None, read: bool = False) -> Cut:
    """Make the Cut of a value, of the last items of a list, or of several values by their pointers."""
    written = canonical(content)
    return Cut(pointer, values, len(written), hashlib.sha256(written).hexdigest(), start, read)


def common_pointer(pointers: Iterable[str]) -> str:
    """Return the pointer of the deepest place that is at or above all of ``pointers``.

    >>> common_pointer(["/a/b/0/c", "/a/b/1", "/a/bc"])
    '/a'
    """
    found = [*pointers]
    same = os.path.commonprefix((min(found), max(found)))  # noqa: RUF071  # the end of a token is looked for below
    if all(pointer[len(same) : len(same) + 1] in ("", "/") for pointer in found):
        return same
    return same.rpartition("/")[0]


def short(pointer: str) -> str:
    """Return a pointer as it is shown: a long one is cut, and ends with the first digits of its SHA-256.

    >>> short("/a/b"), len(short("/" + "k" * 1_000_000))
    ('/a/b', 500)
    """
    if len(pointer) <= MAX_SHOWN:
        return pointer
    digest = hashlib.sha256(pointer.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{pointer[: MAX_SHOWN - 17]}…{digest}"


def shortened(value: Any) -> tuple[Any, list[str]]:
    """Return a resource with strings of FHIR's length at most, and the FHIRPaths of those that were cut.

    XHTML and base64 have no such limit. A resource without a long string is returned as it is.

    >>> resource, paths = shortened({"resourceType": "List", "note": [{"text": "x" * 2_000_000}], "status": "current"})
    >>> len(resource["note"][0]["text"]), paths
    (1048576, ['note[0].text'])
    """
    paths: list[str] = []
    return _shortened(value, "", paths), paths


def _shortened(value: Any, path: str, paths: list[str]) -> Any:
    if isinstance(value, str) and len(value) > MAX_STRING:
        paths.append(path)
        return value[:MAX_STRING].rstrip(" \t\r\n")
    if isinstance(value, Mapping):
        return {
            name: item if name in ("div", "data") else _shortened(item, f"{path}.{name}" if path else name, paths)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_shortened(item, f"{path}[{position}]", paths) for position, item in enumerate(value)]
    return value
