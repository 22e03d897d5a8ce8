"""Redaction of members and items whose name is in a key above them, or in a member or item beside (mapping.md §7)."""

import re
from collections.abc import Set
from operator import is_not
from typing import Any

from fhirline.mappers.pipeline.redaction.blocks import without_blocks
from fhirline.mappers.pipeline.redaction.keys import (
    LONGEST_CACHED,
    REDACTED,
    begins_secret,
    comparable,
    split_further,
    table_names,
    treatment,
)
from fhirline.mappers.pipeline.redaction.labels import header_columns, is_pair, values_of_labels
from fhirline.mappers.pipeline.redaction.plain_parts import is_plain, is_unsplit, members_of, parts_of

CONTAINERS = (dict, list)
LIKE_A_SECRET = re.compile(r"[0-9]|.{12}")
"""A text with a digit, or a long one: behind a name in a list, another may be a word of the record."""


def split_redacted(key: str, item: Any) -> Any:
    """Redact the members below ``key`` whose own keys complete it to the name of a secret."""
    if not isinstance(item, CONTAINERS) or not begins_secret(key):
        return item
    if isinstance(item, list):
        items = [
            inner if plain or inner.__class__ not in CONTAINERS else split_redacted(key, inner)
            for part, plain in parts_of(item, lambda part: is_unsplit(part, key))
            for inner in part
        ]
        return items if any(map(is_not, items, item)) else item
    changed = {}
    for part, plain in members_of(item, lambda part: is_unsplit(part, key)):
        for inner, value in () if plain else part.items():
            if value == REDACTED:
                continue
            if split_further(key, inner):
                new = blank_out(value)
            elif isinstance(value, CONTAINERS):
                new = split_redacted(f"{key}_{inner}", value)
            else:
                continue
            if new is not value:
                changed[inner] = new
    return {**item, **changed} if changed else item


def texts_right_below(value: Any, below: frozenset[str]) -> Any:
    """Redact the lines with a secret name of a text that was sent in place of an object, or of its list."""
    if isinstance(value, str):
        return without_blocks(value, below)
    if isinstance(value, list) and any(isinstance(item, str) for item in value):
        items = [
            without_blocks(item, below) if not plain and isinstance(item, str) else item
            for part, plain in parts_of(value, lambda part: is_plain(part, below, texts=True))
            for item in part
        ]
        return items if any(map(is_not, items, value)) else value
    return value


def without_addresses(value: Any) -> Any:
    """Redact the addresses that were sent in place of an object that contains an address."""
    if isinstance(value, str):
        return REDACTED if "://" in value else value
    if isinstance(value, list) and any(isinstance(item, str) and "://" in item for item in value):
        return [REDACTED if isinstance(item, str) and "://" in item else item for item in value]
    return value


def named_before(value: list[Any], items: list[Any]) -> int:
    """Redact in a list the items that an earlier item names: columns of rows, and an object that is only a value.

    A first row of two items may itself be the name of a secret and its value: in the other rows, only values that look
    like a secret are redacted. Returns the number of the names.
    """
    first = value[0].__class__
    columns = frozenset(header_columns(value)) if first is list else frozenset[int]()
    if columns:
        pair = is_pair(value[0])
        items[1:] = [_without_cells(row, columns, pair) if row.__class__ is list else row for row in items[1:]]
    places = values_of_labels(value) if first is dict or len(value) > 2 else []
    for place in places:
        items[place] = blank_out(items[place])
    return len(columns) + len(places)


def _without_cells(row: list[Any], columns: frozenset[int], words_stay: bool = False) -> list[Any]:
    """Redact the items of a row in some columns; where words stay, those that look like a secret."""
    if columns.isdisjoint(range(len(row))):
        return row
    made = [*row]
    for place, item in enumerate(row):
        if place in columns and not (words_stay and isinstance(item, str) and not LIKE_A_SECRET.search(item)):
            made[place] = blank_out(item)
    return made


def without_columns(rows: list[Any], columns: frozenset[int]) -> list[Any]:
    """Redact columns of a table: their items of each row, or of the only row."""
    if not any(isinstance(row, list) for row in rows):
        return _without_cells(rows, columns)
    return [_without_cells(row, columns) if isinstance(row, list) else row for row in rows]


def blank_out(value: Any) -> Any:
    """Redact every leaf below a secret key; containers keep their shape, and of their keys those of the table."""
    if isinstance(value, dict):
        blank: dict[str, Any] = {}
        for key, item in value.items():
            shown, new = key if comparable(key) in table_names() else REDACTED, blank_out(item)
            if shown not in blank or new not in (None, ""):
                blank[shown] = new
        return blank
    if isinstance(value, list):
        return [blank_out(item) for item in value]
    return value if value in (None, "") else REDACTED


def with_keys_redacted(value: dict[str, Any], secret: Set[str]) -> dict[str, Any]:
    """Replace the keys ``secret`` of an object by ``[redacted]``, numbered from the second on."""
    made: dict[str, Any] = {}
    number = 1
    for key, item in value.items():
        new = REDACTED if key in secret else key
        while new is not key and (new in made or new in value):
            number += 1
            new = f"{REDACTED} {number}"
        made[new] = item
    return made


def numbered_keys(value: dict[str, Any]) -> list[str]:
    """Return the keys of an object that are the positions of a list, in order; none where it has less than two.

    >>> numbered_keys({"10": "b", "9": "a", "name": "c"}), numbered_keys({"1": "a", "name": "c"})
    (['9', '10'], [])
    """
    found = [key for key in value if key.isdecimal() and len(key) <= LONGEST_CACHED]
    return sorted(found, key=lambda key: (int(key), key)) if len(found) > 1 else []


def is_word(item: Any, without: frozenset[str] = frozenset()) -> bool:
    """Return whether an item of a list may be a word of the record behind another that is the name of a secret.

    A word has none of the characters ``without``.
    """
    return isinstance(item, str) and not LIKE_A_SECRET.search(item) and without.isdisjoint(item)


def is_below(name: Any, below: frozenset[str]) -> bool:
    """Return whether an item is a key that is redacted because of a parent."""
    return name.__class__ is str and len(name) <= LONGEST_CACHED and not treatment(name).names.isdisjoint(below)


def names_parent(name: Any) -> bool:
    """Return whether an item is a key below which others are redacted."""
    return name.__class__ is str and len(name) <= LONGEST_CACHED and bool(treatment(name).below)
