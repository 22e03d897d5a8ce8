"""Redaction of secrets in bodies (mapping.md §7)."""

import re
from collections.abc import Callable
from functools import cache
from operator import is_not
from typing import Any

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.plain_keys import plain_keys
from fhirline.mappers.pipeline.secret_blocks import without_blocks
from fhirline.mappers.pipeline.secret_disguises import DISGUISE, undisguised
from fhirline.mappers.pipeline.secret_encodings import encoded_pattern, without_encoded
from fhirline.mappers.pipeline.secret_keys import (
    IN_NOTES,
    LONGEST_CACHED,
    REDACTED,
    begins_secret,
    blank_out,
    split_further,
    treatment,
    without_column,
)
from fhirline.mappers.pipeline.secret_labels import (
    LABELS,
    MAY_LABEL,
    header_columns,
    is_pair,
    labelled_values,
    named_columns,
    named_pattern,
    named_positions,
    stem_pattern,
    values_of_labels,
    without_labelled,
)
from fhirline.mappers.pipeline.secret_texts import MARK, ROOM, has_mark, redacted_text

__all__ = ["REDACTED", "redact"]

_PLAIN: dict[frozenset[str], dict[str, bool]] = {}
"""Cache of the keys that are neither secret nor above a secret, by the keys redacted at their place, and whether each
may end with the first words of a name (`begins_secret`)."""

_MOST_PLAIN = 10_000
_CONTAINERS = (dict, list)
_LIKE_A_SECRET = re.compile(r"[0-9]|.{12}")
"""A text with a digit, or a long one: behind a name in a list, another may be a word of the record."""
_NOTHING: frozenset[str] = frozenset()
_NONE_KNOWN: dict[str, bool] = {}


def redact(value: Any, source: bytes | None = None) -> Any:
    """Replace every secret leaf of parsed JSON by ``[redacted]``; null and ``""`` stay. Idempotent.

    ``source``, the JSON that ``value`` was parsed from, saves the look into each text where no text can have a secret.
    The result does not depend on it. Unchanged parts are returned as they are, not copied.
    """
    look = source is None or _source_finder()(source)
    return _redacted(value, _NOTHING, ROOM if look else 0)


@cache
def _heads(below: frozenset[str]) -> tuple[frozenset[str], Callable[[str | bytes], bool]]:
    """Return the keys redacted because of a parent that head lines, too, and a finder of texts that may have a secret.

    Such a text has what every label has, or a key of a parent with its value.
    """
    heads = below - IN_NOTES
    settings = rf"|(?i:{'|'.join(sorted(name[:3] for name in heads))})[^\n]{{0,80}}[:=：]" if heads else ""
    return heads, finder(f'"|{MARK}|{stem_pattern()}|{encoded_pattern()}{settings}')


@cache
def _source_finder() -> Callable[[str | bytes], bool]:
    """Return the finder of JSON in which a text may have a secret: the name of one, but for a key that is such a name.

    A quote in a text is escaped; behind a key is a colon, which is behind no other text.
    """
    return finder(
        rf'\\|{MARK}|{DISGUISE.pattern}|{encoded_pattern()}|{named_pattern()}[^"]*"[ \t\r\n]*(?:[^: \t\r\n]|$)'
    )


def _redacted(value: Any, below: frozenset[str], room: int) -> Any:
    """Redact a value. ``below`` are the keys (`comparable`) that are redacted because of a parent.

    ``room`` is that of `redacted_text`, 0 where no text needs a look.
    """
    if isinstance(value, dict):
        known = _PLAIN.get(below)
        if known is None or not known.keys() >= value.keys() or not MAY_LABEL.isdisjoint(value):
            return _redacted_object(value, below, room)
        made = value  # most objects: no key decides anything, but for the first words of a name
        for key, item in value.items():
            kind = item.__class__
            if kind is dict or kind is list:
                new = _redacted(_split_redacted(key, item) if known[key] else item, below, room)
            elif room and kind is str:
                new = _redacted_leaf(item, below, room)
            else:
                continue
            if new is not item:
                made = {**value} if made is value else made
                made[key] = new
        return made
    if isinstance(value, list):
        return _redacted_list(value, below, room)
    return _redacted_leaf(value, below, room) if room and isinstance(value, str) else value


def _redacted_object(value: dict[str, Any], below: frozenset[str], room: int) -> dict[str, Any]:
    changed = {}
    renamed = False
    many, known = plain_keys(value), _PLAIN.get(below, _NONE_KNOWN)
    for key, item in value.items():
        if key not in many and key not in known:
            new = _redacted_item(key, item, below, room)
            renamed = renamed or bool(room and _is_secret_text(key, below, room))
        elif isinstance(item, _CONTAINERS):
            new = _redacted(_split_redacted(key, item) if begins_secret(key) else item, below, room)
        elif room and isinstance(item, str):
            new = _redacted_leaf(item, below, room)
        else:
            continue
        if new is not item:
            changed[key] = new
    if not (MAY_LABEL.isdisjoint(value) or LABELS.isdisjoint(value)):
        _redact_labelled(value, changed, below, room)
    if room:
        for key, column in named_columns(value):
            changed[key] = without_column(changed[key] if key in changed else value[key], column)
    if renamed:
        return _with_keys_redacted({**value, **changed}, below, room)
    return {**value, **changed} if changed else value


def _redacted_list(value: list[Any], below: frozenset[str], room: int) -> list[Any]:
    if len(value) == 1:
        (item,) = value
        return value if (new := _redacted(item, below, room)) is item else [new]
    if len(value) == 2 and is_pair(value):
        return [value[0], blank_out(value[1])]
    items = [
        _redacted(item, below, room) if item.__class__ in _CONTAINERS or (room and item.__class__ is str) else item
        for item in value
    ]
    if len(value) == 2 and isinstance(value[1], _CONTAINERS) and _names_parent(value[0]):
        items[1] = _redacted(items[1], below | treatment(value[0]).below, room or ROOM)
    if below:
        for place in [place for place, name in enumerate(value[:-1], 1) if _is_below(name, below)]:
            items[place] = blank_out(value[place])
    if len(value) > 2 or (value and value[0].__class__ in _CONTAINERS):
        items = _named_before(value, items)
    for place in named_positions(value) if room and len(value) > 2 else ():
        if not isinstance(value[place], str) or _LIKE_A_SECRET.search(value[place]):
            items[place] = blank_out(value[place])
    return items if any(map(is_not, items, value)) else value


def _redact_labelled(value: dict[str, Any], changed: dict[str, Any], below: frozenset[str], room: int) -> None:
    """Put into ``changed`` the members of an object that another member names as a secret, or as above one."""
    for key in labelled_values(value):
        changed[key] = blank_out(value[key])
    for key in labelled_values(value, lambda name: _is_below(name, below)) if below else ():
        changed[key] = blank_out(value[key])
    for key in labelled_values(value, _names_parent):
        further = below.union(*(treatment(name).below for name in value.values() if _names_parent(name)))
        if "url" in value and _names_parent(value["url"]):  # an extension, whose parts are named by a ``url``, too
            further = below | (further - IN_NOTES)
        if (new := _redacted(changed.get(key, value[key]), further, room or ROOM)) is not value[key]:
            changed[key] = new


def _is_below(name: Any, below: frozenset[str]) -> bool:
    """Return whether an item is a key that is redacted because of a parent."""
    return name.__class__ is str and len(name) <= LONGEST_CACHED and not treatment(name).names.isdisjoint(below)


def _names_parent(name: Any) -> bool:
    """Return whether an item is a key below which others are redacted."""
    return name.__class__ is str and len(name) <= LONGEST_CACHED and bool(treatment(name).below)


def _named_before(value: list[Any], items: list[Any]) -> list[Any]:
    """Redact in the items of a list what one before names: columns of rows, and an object that is only a value.

    A first row of two may be the name of a secret and its value: of the others only what looks like a secret goes.
    """
    pair = isinstance(value[0], list) and is_pair(value[0])
    for column in header_columns(value):
        items[1:] = [
            [
                blank_out(cell)
                if place == column and not (pair and isinstance(cell, str) and not _LIKE_A_SECRET.search(cell))
                else cell
                for place, cell in enumerate(row)
            ]
            for row in items[1:]
        ]
    for place in values_of_labels(value):
        items[place] = blank_out(items[place])
    return items


def _is_secret_text(key: str, below: frozenset[str], room: int) -> bool:
    """Return whether a key is itself a text with a secret, such as JSON or a form."""
    return has_mark(key) and redacted_text(key, below, room, _redacted) != key


def _with_keys_redacted(value: dict[str, Any], below: frozenset[str], room: int) -> dict[str, Any]:
    """Return an object in which a key that is a text with a secret is ``[redacted]``, numbered from the second on."""
    made: dict[str, Any] = {}
    number = 1
    for key, item in value.items():
        new = REDACTED if _is_secret_text(key, below, room) else key
        while new is not key and (new in made or new in value):
            number += 1
            new = f"{REDACTED} {number}"
        made[new] = item
    return made


def _redacted_leaf(text: str, below: frozenset[str], room: int) -> str:
    if text.isascii() and not _heads(below)[1](text):
        return text
    new = _redacted_plain(text, below, room)
    if (plain := undisguised(new)) != new and (shown := _redacted_plain(plain, below, room)) != plain:
        return shown
    return new  # a text without a secret keeps its letters


def _redacted_plain(text: str, below: frozenset[str], room: int) -> str:
    heads, may_have_secret = _heads(below)
    if not may_have_secret(text):
        return text
    if room > 1:
        text = without_encoded(text, lambda inner: _redacted_leaf(inner, below, room - 1) != inner)
    if has_mark(text):
        text = redacted_text(text, below, room, _redacted)
    return without_labelled(without_blocks(text, heads))


def _redacted_item(key: str, item: Any, below: frozenset[str], room: int) -> Any:
    """Redact an item under a key that is secret, has secrets below it, or is not in the cache."""
    found = treatment(key)
    if found.redacted or found.names & below:
        return blank_out(item)
    item = _split_redacted(key, item)
    if found.below:
        new = _without_addresses(_redacted(item, below | found.below, room or ROOM))
        return _texts_right_below(new, found.below)
    known = _PLAIN.setdefault(below, {})
    if len(known) < _MOST_PLAIN and len(key) <= LONGEST_CACHED and not has_mark(key):
        known[key] = begins_secret(key)
    return _redacted(item, below, room)


def _texts_right_below(value: Any, below: frozenset[str]) -> Any:
    """Redact the lines with a secret name of a text that was sent in place of an object, or of its list."""
    if isinstance(value, str):
        return without_blocks(value, below)
    if isinstance(value, list) and any(isinstance(item, str) for item in value):
        items = [without_blocks(item, below) if isinstance(item, str) else item for item in value]
        return items if any(map(is_not, items, value)) else value
    return value


def _split_redacted(key: str, item: Any) -> Any:
    """Redact what stands right below a key whose name and its own are together that of a secret."""
    if not isinstance(item, _CONTAINERS) or not begins_secret(key):
        return item
    if isinstance(item, list):
        items = [_split_redacted(key, inner) if inner.__class__ in _CONTAINERS else inner for inner in item]
        return items if any(map(is_not, items, item)) else item
    changed = {}
    many = plain_keys(item, f"{key}_")
    for inner, value in item.items():
        if inner not in many and split_further(key, inner):
            new = blank_out(value)
        elif isinstance(value, _CONTAINERS):
            new = _split_redacted(f"{key}_{inner}", value)
        else:
            continue
        if new is not value:
            changed[inner] = new
    return {**item, **changed} if changed else item


def _without_addresses(value: Any) -> Any:
    """Redact the addresses that were sent in place of an object that contains an address."""
    if isinstance(value, str):
        return REDACTED if "://" in value else value
    if isinstance(value, list) and any(isinstance(item, str) and "://" in item for item in value):
        return [REDACTED if isinstance(item, str) and "://" in item else item for item in value]
    return value
