"""Read a webhook's body (mapping.md §2.5): from bytes to a JSON object, and flags that tell how it was read.

A body of strict JSON costs one pass of the fast parser, and a search of its bytes where the parser would write others.
Other bodies are read by the tolerant reader, and text that is JSON is replaced by the parsed JSON.
"""

import hashlib
import json
import re
from typing import Any, NamedTuple

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.mappers.pipeline import tolerant
from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.redact import REDACTED

Body = dict[str, Any]
MAX_DEPTH = 96
"""Deepest nesting of a body that is accepted. orjson 3.11 writes so many levels within its buffer: it reserves 128
bytes before a number, of which some 25 are the number's, and nothing for the ``]`` behind it."""

_MANY_ENDS = b"]" * MAX_DEPTH
"""Consecutive ends of lists. Each body for which the buffer may be too small has so many."""

BOM = b"\xef\xbb\xbf"
BYTE_ORDER_MARK, JSON_IN_TEXT = "byte-order-mark", "json-in-text"
BODY_FLAGS = frozenset(
    {
        BYTE_ORDER_MARK,
        JSON_IN_TEXT,
        tolerant.NUMBER_AS_TEXT,
        tolerant.NOT_A_NUMBER,
        tolerant.TEXT_DAMAGED,
        tolerant.NOT_STRICT,
        tolerant.REPEATED_KEY,
    }
)
"""Flags that reading a body can raise (config/flags.yaml)."""

_MOST_WORK = 32
"""Limit of the bytes of text that is read as JSON, as a multiple of the body: text in text is read once a level."""

_FORMATS = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
)
_ENCODINGS = (  # UTF-32 begins like UTF-16
    (re.compile(rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff|[{\[\"\s]\x00\x00\x00|\x00\x00\x00[{\[\"\s]"), "UTF-32"),
    (re.compile(rb"\xff\xfe|\xfe\xff|[{\[\"\s]\x00|\x00[{\[\"\s]"), "UTF-16"),
)


class ReadBody(NamedTuple):
    """A body as read, not redacted, and the sorted codes of its flags (`BODY_FLAGS`)."""

    body: Body
    flags: tuple[str, ...] = ()


class UnreadableBody(FhirlineError):
    """A raw value is not a webhook body. Messages never quote the body.

    ``code`` is the dead letter's stable code. ``cause`` is a finer stable word, one of `CAUSES`. ``line`` and
    ``column``, from 1, tell where reading broke; None where that is no place.
    """

    def __init__(
        self, code: str, reason: str, cause: str = "", line: int | None = None, column: int | None = None
    ) -> None:
        place = f" (line {line}, column {column})" if line is not None else ""
        super().__init__(reason + place)
        self.code = code
        self.cause = cause or code
        self.line = line
        self.column = column


CAUSES = ("empty", "compressed", "utf-16", "utf-32", "not-utf-8", "cut-off", "syntax", "not-an-object", "too-deep")
"""All values of `UnreadableBody.cause` that reading a body gives."""


def fingerprint(value: bytes) -> dict[str, int | str]:
    """Return ``bytes`` and ``sha256`` of a body that was not kept, so that its sender can find it."""
    return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}


def other_format(head: bytes) -> str | None:
    """Name the format of bytes that are not UTF-8 text by how they begin: ``gzip``, ``UTF-16``, …; else None."""
    for magic, name in _FORMATS:
        if head.startswith(magic):
            return name
    return next((name for form, name in _ENCODINGS if form.match(head)), None)


def read_body(value: bytes | str, max_depth: int = MAX_DEPTH) -> ReadBody:
    """Read a webhook body; raise UnreadableBody (``not-json``, ``not-an-object``, ``too-deep``).

    ``max_depth`` counts the levels of objects and lists, those in text that is JSON included.
    """
    body, flags = read_json(value, max_depth)
    if not isinstance(body, dict):
        raise UnreadableBody("not-an-object", "the body is JSON, but not an object")
    return ReadBody(body, flags)


def read_json(value: bytes | str, max_depth: int = MAX_DEPTH) -> tuple[Any, tuple[str, ...]]:
    """Read JSON of any kind as a body is read; return it with the sorted codes of its flags.

    Raises UnreadableBody (``not-json``, ``too-deep``).
    """
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    flags: set[str] = set()
    if data.startswith(BOM):
        data = data.removeprefix(BOM)
        flags.add(BYTE_ORDER_MARK)
    try:
        body, has_text = _parsed(data, flags)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _not_json(data, error) from None
    if has_text:
        body = _Expansion(max_depth, len(data), flags).expanded(body, 1)
    nested = isinstance(body, dict | list) and data.count(b"{") + data.count(b"[") > max_depth
    if nested and deeper_than(body, max_depth):
        raise _too_deep(max_depth)
    return body, tuple(sorted(flags)) if flags else ()


def deeper_than(value: object, limit: int) -> bool:
    """Return whether containers are nested deeper than ``limit``, without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    if not level:
        return False
    for _ in range(limit):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


# -- what the fast parser would change or pass over


_may_be_inexact = finder("[0-9.]{16}[0-9.eE]|[0-9.][eE]-[0-9]{3}")
_may_be_tiny = finder("[0-9]e-[0-9]{3}")
_INEXACT = re.compile(
    rb"[:,\[][ \t\r\n]*-?(?:[0-9]{19}|0\.0*[1-9][0-9]{17}|[1-9](?=[0-9.]{18})[0-9]*\.|[0-9]{16,}\."
    rb"|[0-9](?=[0-9.]{15})[0-9.]+[eE]|[0-9.]+[eE]-[0-9]{3})"
)
"""A number that a double may not hold; numbers in text that looks like JSON match as well."""
_MEMBER = re.compile(rb'"[ \t\r\n]*:')
_has_space_before_colon = finder(r"[ \t\r\n]:")
_may_hide_a_member = finder(r"\\u00(?:22|3[aA])")  # an escaped quote or colon, which counting would take for a member's
_has_mark_in_text = finder(r'"[ \t\r\n]*(?:[{\\\x{feff}]|\[[^r])')  # no JSON begins with [r, but [redacted] does
_JSON_IN_TEXT = re.compile(
    rb'"(?:[ \t\r\n]|\xef\xbb\xbf|\\[ntr]|\\u(?:00(?:20|09|0[aAdD])|[fF][eE][fF][fF]))*'
    rb'(?:\[(?!redacted\]")|{|\\"|\\u00(?:5[bB]|7[bB]|22))'
)
"""A text that begins like JSON. The text ``[redacted]``, which raw records have, does not."""


def _parsed(data: bytes, flags: set[str], text: str | None = None) -> tuple[Any, bool]:
    """Parse JSON; return it, and whether a text in it may be JSON. ``text``: ``data``, if it may be no JSON."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if text is not None and not _NEEDS_TOLERANCE.search(text):
            if _TOO_DEEP_FOR_ORJSON in error.msg:
                raise RecursionError from None
            raise
        return tolerant.parse(data, flags), True
    if not _is_exact(data, value):
        value = tolerant.parse(data, flags)
    return value, _has_mark_in_text(data) and _JSON_IN_TEXT.search(data) is not None


def _is_exact(data: bytes, value: Any) -> bool:
    """Return whether the fast parser has kept every member and number: it keeps a key once, and numbers as doubles."""
    if _MANY_ENDS in data.translate(None, b" \t\r\n") and deeper_than(value, MAX_DEPTH):
        return True  # the body is refused later, and must not be written here: the buffer is too small
    try:
        written = orjson.dumps(value)
    except TypeError:  # nested too deep to be written, so that the body is refused
        return not _may_be_inexact(data) or not _INEXACT.search(data)
    if written == data and not _may_be_tiny(data):  # most raw records: the gateway has written them so
        return True
    if _may_hide_a_member(data):
        return False
    members = len(_MEMBER.findall(data)) if _has_space_before_colon(data) else data.count(b'":')
    if members > 1 and members != written.count(b'":'):
        return False
    return not (_may_be_inexact(data) and _INEXACT.search(data))


# -- text that is JSON

_SPACE = " \t\r\n\ufeff"
_CANDIDATE = re.compile(r'[ \t\r\n\ufeff]*(?:\{\s*["}]|\[\s*[\]\[{"\-0-9tfnNI]|")')
_NEEDS_TOLERANCE = re.compile(r"NaN|Infinity|\\u[dD]|[\x00-\x1f]|[0-9][eE]|[0-9]{300}")
"""Marks of JSON that the fast parser refuses and the tolerant reader reads."""
_TOO_DEEP_FOR_ORJSON = "recursion depth"
"""Words of orjson's error about a text that is nested too deep."""
_ENDS = {"{": "}", "[": "]", '"': '"'}


class _Expansion:
    """Replaces each text that is a JSON object or list by that object or list. Bounded in depth and in bytes read."""

    def __init__(self, max_depth: int, size: int, flags: set[str]) -> None:
        self._max_depth = max_depth
        self._left = size * _MOST_WORK
        self._flags = flags

    def expanded(self, value: Any, depth: int) -> Any:
        """Return parsed JSON with its text expanded; containers are changed in place. ``depth`` is that of ``value``.

        Raises UnreadableBody (``too-deep``).
        """
        if isinstance(value, str):
            return self._text(value, depth)
        if not isinstance(value, dict | list):
            return value
        if depth > self._max_depth:
            raise _too_deep(self._max_depth)
        for place, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, str | dict | list):
                new = self.expanded(item, depth + 1)
                if new is not item:
                    value[place] = new
        return value

    def _text(self, text: str, depth: int) -> Any:
        """Return the object or list that a text is, also through texts in texts; else the text itself."""
        if not _CANDIDATE.match(text) or text == REDACTED:
            return text
        stripped = text.strip(_SPACE)
        if len(stripped) < 2 or stripped[-1] != _ENDS[stripped[0]]:
            return text
        if depth > self._max_depth or len(stripped) > self._left:
            raise _too_deep(self._max_depth)
        self._left -= len(stripped)
        flags: set[str] = set()
        data = stripped.encode()
        try:
            found, has_text = _parsed(data, flags, stripped)
        except json.JSONDecodeError:
            return text
        except RecursionError:
            raise _too_deep(self._max_depth) from None
        if isinstance(found, str):
            found = self.expanded(found, depth + 1)
            if isinstance(found, str):
                return text
        elif has_text:
            found = self.expanded(found, depth)
        else:
            below = self._max_depth - depth + 1
            if data.count(b"{") + data.count(b"[") > below and deeper_than(found, below):
                raise _too_deep(self._max_depth)
        self._flags |= flags | {JSON_IN_TEXT}
        return found


# -- errors


def _too_deep(max_depth: int) -> UnreadableBody:
    return UnreadableBody("too-deep", f"the body is nested deeper than {max_depth} levels")


def _not_json(data: bytes, error: UnicodeDecodeError | json.JSONDecodeError) -> UnreadableBody:
    """Make the error of a body that the tolerant reader refuses, with the place where it breaks."""
    if not data.strip():
        return UnreadableBody("not-json", "the body is not JSON: it is empty", "empty")
    if name := other_format(data):
        cause = name.lower() if name.startswith("UTF-") else "compressed"
        return UnreadableBody("not-json", f"the body is not JSON: it is {name}, not UTF-8 text", cause)
    if isinstance(error, UnicodeDecodeError):
        before = data[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return UnreadableBody("not-json", "the body is not JSON: it is not UTF-8", "not-utf-8", line, column)
    cut_off = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
    if cut_off:
        return UnreadableBody(
            "not-json", "the body is not JSON: it ends too early", "cut-off", error.lineno, error.colno
        )
    return UnreadableBody("not-json", "the body is not JSON", "syntax", error.lineno, error.colno)
