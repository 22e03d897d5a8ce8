"""Redaction of what a key or a neighbour says of a member of an object or an item of a list (mapping.md §7)."""

import re
from operator import is_not
from typing import Any

from fhirline.mappers.pipeline.plain_keys import plain_keys
from fhirline.mappers.pipeline.secret_blocks import without_blocks
from fhirline.mappers.pipeline.secret_keys import REDACTED, begins_secret, comparable, split_further, table_names
from fhirline.mappers.pipeline.secret_labels import header_columns, is_pair, values_of_labels

CONTAINERS = (dict, list)
LIKE_A_SECRET = re.compile(r"[0-9]|.{12}")
"""A text with a digit, or a long one: behind a name in a list, another may be a word of the record."""


def split_redacted(key: str, item: Any) -> Any:
    """Redact what stands right below a key whose name and its own are together that of a secret."""
    if not isinstance(item, CONTAINERS) or not begins_secret(key):
        return item
    if isinstance(item, list):
        items = [split_redacted(key, inner) if inner.__class__ in CONTAINERS else inner for inner in item]
        return items if any(map(is_not, items, item)) else item
    changed = {}
    many = plain_keys(item, f"{key}_")
    for inner, value in item.items():
        if inner not in many and split_further(key, inner):
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
        items = [without_blocks(item, below) if isinstance(item, str) else item for item in value]
        return items if any(map(is_not, items, value)) else value
    return value


def without_addresses(value: Any) -> Any:
    """Redact the addresses that were sent in place of an object that contains an address."""
    if isinstance(value, str):
        return REDACTED if "://" in value else value
    if isinstance(value, list) and any(isinstance(item, str) and "://" in item for item in value):
        return [REDACTED if isinstance(item, str) and "://" in item else item for item in value]
    return value


def named_before(value: list[Any], items: list[Any]) -> list[Any]:
    """Redact in the items of a list what one before names: columns of rows, and an object that is only a value.

    A first row of two may be the name of a secret and its value: of the others only what looks like a secret goes.
    """
    pair = isinstance(value[0], list) and is_pair(value[0])
    for column in header_columns(value):
        items[1:] = [
            [
                blank_out(cell)
                if place == column and not (pair and isinstance(cell, str) and not LIKE_A_SECRET.search(cell))
                else cell
                for place, cell in enumerate(row)
            ]
            for row in items[1:]
        ]
    for place in values_of_labels(value):
        items[place] = blank_out(items[place])
    return items


def without_column(rows: Any, column: int) -> list[Any]:
    """Redact one column of a table: an item of each row, or of the only row."""
    if not any(isinstance(row, list) for row in rows):
        return [blank_out(item) if place == column else item for place, item in enumerate(rows)]
    return [
        [blank_out(item) if place == column else item for place, item in enumerate(row)]
        if isinstance(row, list)
        else row
        for row in rows
    ]


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
