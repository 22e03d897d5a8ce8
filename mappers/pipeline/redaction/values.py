"""Redaction of the nested values of a body (mapping.md §7)."""

from collections.abc import Iterable, Sequence
from operator import is_not
from typing import Any

from fhirline.mappers.pipeline.redaction.embedded_formats import ROOM, has_mark
from fhirline.mappers.pipeline.redaction.keys import (
    CODES,
    IN_NOTES,
    LONGEST_CACHED,
    NO_NAME,
    REDACTED,
    begins_secret,
    comparable,
    treatment,
)
from fhirline.mappers.pipeline.redaction.label_keys import LABELS, MAY_LABEL
from fhirline.mappers.pipeline.redaction.labels import (
    is_pair,
    labelled_values,
    may_be_label,
    named_columns,
    named_positions,
)
from fhirline.mappers.pipeline.redaction.members import (
    CONTAINERS,
    blank_out,
    is_below,
    is_word,
    named_before,
    names_parent,
    numbered_keys,
    split_redacted,
    texts_right_below,
    with_keys_redacted,
    without_addresses,
    without_columns,
)
from fhirline.mappers.pipeline.redaction.plain_parts import is_plain, members_of, parts_of
from fhirline.mappers.pipeline.redaction.texts import TextRedaction

_PLAIN: dict[frozenset[str], dict[str, bool]] = {}
"""Cache of the keys that are neither secret nor above a secret, by the keys redacted at their place, and whether each
may end with the first words of a name (`begins_secret`)."""

PartKey = tuple[bytes, frozenset[str], int]

_MOST_PLAIN = 10_000
MOST_NAMES = 20_000
"""Keys, names and texts of a body that may be of secrets and are looked at one by one. Behind them a part of a long
list or object that may have a secret is redacted whole, and behind twice as many any object or list."""
_OF_ADDRESSES = frozenset("/.:@")
_NONE_KNOWN: dict[str, bool] = {}


class Redaction(TextRedaction):
    """The redaction of one body. It knows what became of its texts, and how many it has read in full."""

    _many = 1_000
    """Members of the smallest object, and items of the shortest list, that are searched in parts."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[PartKey | None, list[Any]] = {}

    def redacted(self, value: Any, below: frozenset[str], room: int) -> Any:
        """Redact a value. ``below`` are the keys (`comparable`) that are redacted because of a parent.

        ``room`` is that of `redacted_text`, 0 where no text needs a look.
        """
        if isinstance(value, dict):
            known = _PLAIN.get(below)
            if known is None or not known.keys() >= value.keys() or not MAY_LABEL.isdisjoint(value):
                return self._redacted_object(value, below, room)
            made = value  # most objects: no key decides anything, but for the first words of a name
            for key, item in value.items():
                kind = item.__class__
                if kind is dict or kind is list:
                    new = self.redacted(item, below, room)
                    new = self._split_redacted(key, new) if known[key] else new
                elif room and kind is str:
                    new = self._redacted_leaf(item, below, room)
                else:
                    continue
                if new is not item:
                    made = {**value} if made is value else made
                    made[key] = new
            return made
        if isinstance(value, list):
            return self._redacted_list(value, below, room)
        return self._redacted_leaf(value, below, room) if room and isinstance(value, str) else value

    def _redacted_object(self, value: dict[str, Any], below: frozenset[str], room: int) -> dict[str, Any]:
        if numbers := numbered_keys(value):
            return self._redacted_numbered(value, numbers, below, room)
        changed: dict[str, Any] = {}
        renamed: set[str] = set()
        known = _PLAIN.get(below, _NONE_KNOWN)
        parts: Iterable[tuple[dict[str, Any], bool]] = ((value, False),)
        if len(value) >= self._many:
            parts = members_of(value, lambda part: is_plain(part, below, room > 0), self._many)
        for part, plain in parts:
            if not plain and self._names > MOST_NAMES and part is not value:
                changed |= {key: REDACTED for key, item in part.items() if item not in (None, "")}
                renamed.update(filter(has_mark, part))
                continue
            for key, item in () if plain else part.items():
                if key not in known:
                    new = self._redacted_item(key, item, below, room)
                    if room and self._is_secret_text(key, below, room):
                        renamed.add(key)
                elif isinstance(item, CONTAINERS):
                    new = self.redacted(item, below, room)
                    new = self._split_redacted(key, new) if known[key] else new
                elif room and isinstance(item, str):
                    new = self._redacted_leaf(item, below, room)
                else:
                    continue
                if new is not item:
                    changed[key] = new
        if not (MAY_LABEL.isdisjoint(value) or LABELS.isdisjoint(value)):
            self._redact_labelled(value, changed, below, room)
        if room:
            for key, columns in named_columns(value):
                self._names += 1
                changed[key] = without_columns(changed.get(key, value[key]), columns)
        if renamed:
            return with_keys_redacted({**value, **changed}, renamed)
        return {**value, **changed} if changed else value

    def _redacted_numbered(
        self, value: dict[str, Any], numbers: list[str], below: frozenset[str], room: int
    ) -> dict[str, Any]:
        """Redact an object of which some keys are positions of a list, as PHP writes it, and the others names."""
        new = dict(zip(numbers, self._redacted_list([value[key] for key in numbers], below, room), strict=True))
        others = {key: item for key, item in value.items() if key not in new}
        named = iter(self._redacted_object(others, below, room).items() if others else ())
        made = dict((key, new[key]) if key in new else next(named) for key in value)
        same = all(key is name and item is made[key] for (key, item), name in zip(value.items(), made, strict=True))
        return value if same else made

    def _redacted_item(self, key: str, item: Any, below: frozenset[str], room: int) -> Any:
        """Redact an item under a key that is secret, has secrets below it, or is not in the cache."""
        found = treatment(key)
        if found is not NO_NAME or not CODES.isdisjoint(key):
            self._names += 1
        if found.redacted or found.names & below:
            return blank_out(item)
        begins = begins_secret(key)
        if found.below:
            new = without_addresses(self.redacted(item, below | found.below, room or ROOM))
            new = texts_right_below(new, found.below)
            return self._split_redacted(key, new) if begins else new
        known = _PLAIN.setdefault(below, {})
        if len(known) < _MOST_PLAIN and len(key) <= LONGEST_CACHED and not (has_mark(key) or key.isdecimal()):
            known[key] = begins
        new = self.redacted(item, below, room)
        return self._split_redacted(key, new) if begins else new

    def _redacted_list(self, value: list[Any], below: frozenset[str], room: int) -> list[Any]:
        if len(value) == 1:
            return self._redacted_only(value, below, room)
        if len(value) == 2 and may_be_label(value[0]):
            self._names += 1
            if is_pair(value):
                return [self.redacted(value[0], below, room), blank_out(value[1])]
        first = value[0].__class__ if value else None
        if len(value) == 2 and first is not str and not (first in CONTAINERS and value[1].__class__ in CONTAINERS):
            items = [self.redacted(item, below, room) for item in value]  # neither names the other
            return items if any(map(is_not, items, value)) else value
        looked_at: Sequence[int]
        if len(value) < self._many:
            items, looked_at = self._redacted_part(value, below, room), range(len(value))
        else:
            items, looked_at = self._redacted_parts(value, below, room)
        if not looked_at:
            return items if any(map(is_not, items, value)) else value
        if len(value) == 2 and isinstance(value[1], CONTAINERS) and names_parent(value[0]):
            items[1] = self.redacted(items[1], below | treatment(value[0]).below, room or ROOM)
        if below:
            for place in [place + 1 for place in looked_at if is_below(value[place], below)]:
                if place < len(value) and not (
                    comparable(value[place - 1]) in IN_NOTES and is_word(value[place], _OF_ADDRESSES)
                ):
                    items[place] = blank_out(value[place])
                    self._names += 1
        if len(value) > 2 or first in CONTAINERS:
            self._names += named_before(value, items)
        for place in named_positions(value) if room and len(value) > 2 else ():
            self._names += 1
            if not is_word(value[place]):
                items[place] = blank_out(value[place])
        return items if any(map(is_not, items, value)) else value

    def _redacted_only(self, value: list[Any], below: frozenset[str], room: int) -> list[Any]:
        """Redact a list of one item. Lists of one in each other are passed through: a body may have millions."""
        item, levels = value[0], 1
        while item.__class__ is list and len(item) == 1:
            item = item[0]
            levels += 1
        if (new := self.redacted(item, below, room)) is item:
            return value
        for _ in range(levels):
            new = [new]
        made: list[Any] = new
        return made

    def _redacted_parts(self, value: list[Any], below: frozenset[str], room: int) -> tuple[list[Any], list[int]]:
        """Redact the items of a long list; return also the positions of those that were looked at."""
        items: list[Any] = []
        looked_at: list[int] = []
        for part, plain in parts_of(value, lambda part: is_plain(part, below, room > 0), self._many):
            if not plain and self._names > MOST_NAMES:
                items += [item if item in (None, "") else REDACTED for item in part]
                continue
            if not plain:
                looked_at += range(len(items), len(items) + len(part))
            items += part if plain else self._redacted_part(part, below, room)
        return items, looked_at

    def _redacted_part(self, part: list[Any], below: frozenset[str], room: int) -> list[Any]:
        """Redact the items of a list one by one."""
        key = self._part_key(part, below, room)
        if (made := self._parts.get(key)) is None:
            redacted, leaf = self.redacted, self._redacted_leaf
            made = [
                redacted(item, below, room)
                if item.__class__ is list or item.__class__ is dict
                else leaf(item, below, room)
                if room and item.__class__ is str
                else item
                for item in part
            ]
            if key is not None:
                self._parts[key] = made
        return made if key is None else [*made]

    def _part_key(self, part: list[Any], below: frozenset[str], room: int) -> PartKey | None:
        """Return the key of `_parts` for a part of a list; None where its redaction is not cached."""
        return None

    def _redact_labelled(
        self, value: dict[str, Any], changed: dict[str, Any], below: frozenset[str], room: int
    ) -> None:
        """Put into ``changed`` the members of an object that another member names as a secret, or as above one."""
        for key in labelled_values(value):
            changed[key] = blank_out(value[key])
            self._names += 1
        for key in labelled_values(value, lambda name: is_below(name, below)) if below else ():
            changed[key] = blank_out(value[key])
        for key in labelled_values(value, names_parent):
            self._names += 1
            further = below.union(*(treatment(name).below for name in value.values() if names_parent(name)))
            if "url" in value and names_parent(value["url"]):  # an extension, whose parts are named by a ``url``, too
                further = below | (further - IN_NOTES)
            if (new := self.redacted(changed.get(key, value[key]), further, room or ROOM)) is not value[key]:
                changed[key] = new

    def _split_redacted(self, key: str, item: Any) -> Any:
        """Redact the members below a key that may be the beginning of a name."""
        self._names += 1
        return split_redacted(key, item)
