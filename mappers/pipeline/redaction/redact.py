"""Redaction of secrets in bodies (mapping.md §7)."""

from collections.abc import Callable
from functools import cache
from typing import Any

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.disguises import DISGUISE
from fhirline.mappers.pipeline.redaction.embedded_formats import MARK, ROOM
from fhirline.mappers.pipeline.redaction.encodings import encoded_pattern
from fhirline.mappers.pipeline.redaction.keys import REDACTED
from fhirline.mappers.pipeline.redaction.labels import named_pattern
from fhirline.mappers.pipeline.redaction.large_bodies import LargeRedaction
from fhirline.mappers.pipeline.redaction.values import Redaction

__all__ = ["REDACTED", "redact"]

_LARGE = 262_144
"""Bytes of a body of which whole parts are searched first, so that most of them need no look at each value."""


def redact(value: Any, source: bytes | None = None) -> Any:
    """Replace every secret leaf of parsed JSON by ``[redacted]``; null and ``""`` stay. Idempotent.

    ``source``, the JSON that ``value`` was parsed from, saves the look into each text where no text can have a secret.
    The result does not depend on it. Unchanged parts are returned as they are, not copied.
    """
    look = source is None or _source_finder()(source)
    redaction = Redaction() if source is not None and len(source) < _LARGE else LargeRedaction()
    return redaction.redacted(value, frozenset(), ROOM if look else 0)


@cache
def _source_finder() -> Callable[[str | bytes], bool]:
    """Return a finder of JSON in which a text may have a secret: the name of one, in another place than as a key.

    A quote in a text is escaped; behind a key is a colon, which is behind no other text. A key that has a value of its
    name, too, has another character between the two.
    """
    behind = r'"[ \t\r\n]*(?:[^: \t\r\n]|$)|[^"\w.\[\]-]'
    return finder(rf'\\|{MARK}|{DISGUISE.pattern}|{encoded_pattern()}|{named_pattern()}[^"]*(?:{behind})')
