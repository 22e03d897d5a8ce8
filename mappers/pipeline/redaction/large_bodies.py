"""Redaction of the values of a large body: whole parts are searched first (mapping.md §7)."""

from typing import Any

import orjson

from fhirline.mappers.pipeline.redaction.keys import REDACTED
from fhirline.mappers.pipeline.redaction.members import CONTAINERS
from fhirline.mappers.pipeline.redaction.plain_parts import MANY, is_plain
from fhirline.mappers.pipeline.redaction.values import MOST_NAMES, PartKey, Redaction

_SEARCHED_LEVELS = frozenset({*range(1, 6), 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193})
"""Levels of a large body whose containers are searched as a whole. A body may be one long chain of containers."""
_MOST_IN_VAIN = 256
"""Failed searches, less those that found a container plain, beyond which most searches are left out."""
_FEW = 4
"""Members of the smallest container whose search saves time."""
_PART = 16
"""Items of the shortest part of a list whose redaction is kept for equal parts: one may be sent many times."""
_MOST_PARTS = 1_000
_LONGEST_PART = 4_096
"""Bytes of the longest such part."""


class LargeRedaction(Redaction):
    """The redaction of a large body. It first searches whole parts: most surely have no secret."""

    _many = MANY

    def __init__(self) -> None:
        super().__init__()
        self._level = 0
        self._in_vain = self._asked = 0

    def redacted(self, value: Any, below: frozenset[str], room: int) -> Any:
        if value.__class__ not in CONTAINERS:
            return super().redacted(value, below, room)
        if self._names > 2 * MOST_NAMES:
            return value if is_plain(value, below, room > 0) else REDACTED
        self._level += 1
        if self._level in _SEARCHED_LEVELS and self._is_plain(value, below, room > 0):
            made = value
        elif value.__class__ is list:
            made = self._redacted_list(value, below, room)
        else:
            made = Redaction.redacted(self, value, below, room)
        self._level -= 1
        return made

    def _part_key(self, part: list[Any], below: frozenset[str], room: int) -> PartKey | None:
        if len(part) < _PART or len(self._parts) >= _MOST_PARTS:
            return None
        try:
            data = orjson.dumps(part)
        except TypeError:  # half of a surrogate pair, or nested too deep to be written
            return None
        return (data, below, room) if len(data) <= _LONGEST_PART else None

    def _is_plain(self, value: Any, below: frozenset[str], texts: bool) -> bool:
        """Return whether a search finds a container plain. Where most searches failed, only each eighth is searched.

        A container of few members does not make up for a failed search, since searching it saves no time.
        """
        self._asked += 1
        if self._in_vain > _MOST_IN_VAIN and self._asked % 8:
            return False
        plain = is_plain(value, below, texts)
        if not plain:
            self._in_vain += 1
        elif self._in_vain and len(value) >= _FEW:
            self._in_vain -= 1
        return plain
