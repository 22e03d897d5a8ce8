"""Redaction of secrets in bodies (mapping.md §7)."""

from collections.abc import Callable
from functools import cache
from operator import is_not
from typing import Any

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.secret_keys import LONGEST_CACHED, comparable, table_names, treatment
from fhirline.mappers.pipeline.secret_labels import is_pair, label_pattern, labelled_values, without_labelled
from fhirline.mappers.pipeline.secret_texts import MARK, REDACTED, ROOM, has_mark, redacted_text

__all__ = ["REDACTED", "redact"]

_PLAIN: dict[frozenset[str], set[str]] = {}
"""Cache of the keys that are neither secret nor above a secret, by the keys redacted at their place."""

_MOST_PLAIN = 10_000
_CONTAINERS = (dict, list)
_NOTHING: frozenset[str] = frozenset()


def redact(value: Any, source: bytes | None = None) -> Any:
    """Replace every secret leaf of parsed JSON by ``[redacted]``; null and ``""`` stay. Idempotent.

    ``source``, the JSON that ``value`` was parsed from, saves the look into each text where no text can have a secret.
    The result does not depend on it. Unchanged parts are returned as they are, not copied.
    """
    look = source is None or _source_finder()(source)
    return _redacted(value, _NOTHING, ROOM if look else 0)


@cache
def _text_finder() -> Callable[[str | bytes], bool]:
    """Return the finder of texts that may have a secret."""
    return finder(f'"|{MARK}|{label_pattern()}')


@cache
def _source_finder() -> Callable[[str | bytes], bool]:
    """Return the finder of JSON in which a text may have a secret. A quote in a text is escaped, and ends a key."""
    return finder(rf'\\|{MARK}|{label_pattern()}[^"]')


def _redacted(value: Any, below: frozenset[str], room: int) -> Any:
    """Redact a value. ``below`` are the keys (`comparable`) that are redacted because of a parent.

    ``room`` is that of `redacted_text`, 0 where no text needs a look.
    """
    if isinstance(value, dict):
        changed = {}
        plain = _PLAIN.get(below, ())
        for key, item in value.items():
            if key not in plain:
                new = _redacted_item(key, item, below, room)
            elif isinstance(item, _CONTAINERS):
                new = _redacted(item, below, room)
            elif room and isinstance(item, str):
                new = _redacted_leaf(item, below, room)
            else:
                continue
            if new is not item:
                changed[key] = new
        for key in labelled_values(value):
            changed[key] = _blank_out(value[key])
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        if is_pair(value):
            return [value[0], _blank_out(value[1])]
        items = [_redacted(item, below, room) for item in value]
        return items if any(map(is_not, items, value)) else value
    return _redacted_leaf(value, below, room) if room and isinstance(value, str) else value


def _redacted_leaf(text: str, below: frozenset[str], room: int) -> str:
    if not _text_finder()(text):
        return text
    return without_labelled(redacted_text(text, below, room, _redacted) if has_mark(text) else text)


def _redacted_item(key: str, item: Any, below: frozenset[str], room: int) -> Any:
    """Redact an item under a key that is secret, has secrets below it, or is not in the cache."""
    found = treatment(key)
    if found.redacted or found.names & below:
        return _blank_out(item)
    if found.below:
        return _without_addresses(_redacted(item, below | found.below, room))
    known = _PLAIN.setdefault(below, set())
    if len(known) < _MOST_PLAIN and len(key) <= LONGEST_CACHED:
        known.add(key)
    return _redacted(item, below, room)


def _without_addresses(value: Any) -> Any:
    """Redact the addresses that were sent in place of an object that contains an address."""
    if isinstance(value, str):
        return REDACTED if "://" in value else value
    if isinstance(value, list) and any(isinstance(item, str) and "://" in item for item in value):
        return [REDACTED if isinstance(item, str) and "://" in item else item for item in value]
    return value


def _blank_out(value: Any) -> Any:
    """Redact every leaf below a secret key; containers keep their shape, and of their keys those of the table."""
    if isinstance(value, dict):
        blank: dict[str, Any] = {}
        for key, item in value.items():
            shown, new = key if comparable(key) in table_names() else REDACTED, _blank_out(item)
            if shown not in blank or new not in (None, ""):
                blank[shown] = new
        return blank
    if isinstance(value, list):
        return [_blank_out(item) for item in value]
    return value if value in (None, "") else REDACTED
