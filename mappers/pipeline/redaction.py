"""Redaction of secrets in bodies, and the test for leaves that look like secrets (mapping.md §7)."""

from functools import cache, lru_cache
from typing import Any

from fhirline.config.tables import secrets

REDACTED = "[redacted]"


def comparable(key: str) -> str:
    """Return a key as ``secrets.yaml`` compares it: case, ``_`` and ``-`` ignored."""
    return key.casefold().replace("_", "").replace("-", "")


@cache
def _redacted_keys() -> frozenset[str]:
    return frozenset(map(comparable, secrets().redacted))


@cache
def _redacted_below() -> dict[str, frozenset[str]]:
    return {comparable(parent): frozenset(map(comparable, keys)) for parent, keys in secrets().redacted_below.items()}


@lru_cache(maxsize=4096)
def _treatment(key: str) -> tuple[bool, frozenset[str]]:
    """Return whether a key is redacted everywhere, and the keys that are redacted below it."""
    name = comparable(key)
    return name in _redacted_keys(), _redacted_below().get(name, frozenset())


_PLAIN: dict[frozenset[str], set[str]] = {}
"""Cache of the keys that are neither secret nor above a secret, by the keys redacted at their place."""

_MOST_PLAIN, _LONGEST_PLAIN = 10_000, 100
_CONTAINERS = (dict, list)


def redact(value: Any, below: frozenset[str] = frozenset()) -> Any:
    """Replace every secret leaf of parsed JSON by ``[redacted]``; null and ``""`` stay. Idempotent.

    ``below`` are the keys (`comparable`) that are redacted because of a parent. Unchanged parts are returned as they
    are, not copied.
    """
    if isinstance(value, dict):
        changed = {}
        plain = _PLAIN.get(below, ())
        for key, item in value.items():
            if key not in plain:
                new = _redact_item(key, item, below)
            elif isinstance(item, _CONTAINERS):
                new = redact(item, below)
            else:
                continue
            if new is not item:
                changed[key] = new
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        items = [redact(item, below) if isinstance(item, _CONTAINERS) else item for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _redact_item(key: str, item: Any, below: frozenset[str]) -> Any:
    """Redact an item under a key that is secret, has secrets below it, or is not in the cache."""
    secret, further = _treatment(key)
    if secret or comparable(key) in below:
        return _blank_out(item)
    if further:
        return redact(item, below | further)
    known = _PLAIN.setdefault(below, set())
    if len(known) < _MOST_PLAIN and len(key) <= _LONGEST_PLAIN:
        known.add(key)
    return redact(item, below)


def _blank_out(value: Any) -> Any:
    """Redact every leaf below a secret key; containers keep their shape."""
    if isinstance(value, dict):
        return {key: _blank_out(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_blank_out(item) for item in value]
    return value if value in (None, "") else REDACTED


@lru_cache(maxsize=4096)
def secret_key(key: str) -> bool:
    """Return whether a leaf without a rule is withheld because of its key (last row of mapping.md §7)."""
    name, rule = comparable(key), secrets().withheld
    return name in rule.exact or any(word in name for word in rule.contains) or _treatment(key)[0]


def secret_value(value: Any) -> bool:
    """Return whether a leaf without a rule is withheld because of its value (last row of mapping.md §7)."""
    return isinstance(value, str) and any(mark in value for mark in secrets().withheld.value_contains)
