"""What must never be stored or shown: redaction of bodies, and the test for secret-looking leaves (mapping.md §7)."""

from functools import cache, lru_cache
from typing import Any

from fhirline.config.tables import secrets

REDACTED = "[redacted]"


def folded(key: str) -> str:
    """A key as secrets.yaml compares it: case, ``_`` and ``-`` ignored."""
    return key.casefold().replace("_", "").replace("-", "")


@cache
def _redacted_keys() -> frozenset[str]:
    return frozenset(map(folded, secrets().redacted))


@cache
def _redacted_below() -> dict[str, frozenset[str]]:
    return {folded(parent): frozenset(map(folded, keys)) for parent, keys in secrets().redacted_below.items()}


@lru_cache(maxsize=4096)
def _treatment(key: str) -> tuple[bool, frozenset[str]]:
    """Whether a key is redacted wherever it stands, and the keys that are redacted below it."""
    name = folded(key)
    return name in _redacted_keys(), _redacted_below().get(name, frozenset())


_PLAIN: dict[frozenset[str], set[str]] = {}
"""Keys that were found neither secret nor above a secret, by what is redacted below where they stand: nearly all keys
are, so that they are looked up and no more."""

_MOST, _LONGEST = 10_000, 100
_CONTAINERS = (dict, list)


def redact(value: Any, below: frozenset[str] = frozenset()) -> Any:
    """``value`` (parsed JSON) with every secret leaf replaced by ``[redacted]``. Idempotent; absent values stay.

    Untouched parts are returned as they are, not copied.
    """
    if isinstance(value, dict):
        changed = {}
        plain = _PLAIN.get(below, ())
        for key, item in value.items():
            if key not in plain:
                new = _judged(key, item, below)
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


def _judged(key: str, item: Any, below: frozenset[str]) -> Any:
    """An item under a key that is secret, stands above secrets, or has not been met here before."""
    secret, further = _treatment(key)
    if secret or folded(key) in below:
        return _blank_out(item)
    if further:
        return redact(item, below | further)
    known = _PLAIN.setdefault(below, set())
    if len(known) < _MOST and len(key) <= _LONGEST:
        known.add(key)
    return redact(item, below)


def _blank_out(value: Any) -> Any:
    """Every leaf below a secret key redacted; containers keep their shape, absent values stay."""
    if isinstance(value, dict):
        return {key: _blank_out(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_blank_out(item) for item in value]
    return value if value in (None, "") else REDACTED


@lru_cache(maxsize=4096)
def secret_key(key: str) -> bool:
    """Whether a leaf without a rule is withheld because of its key (last row of mapping.md §7)."""
    name, rule = folded(key), secrets().withheld
    return name in rule.exact or any(word in name for word in rule.contains) or _treatment(key)[0]


def secret_value(value: Any) -> bool:
    """Whether a leaf without a rule is withheld because of its value."""
    return isinstance(value, str) and any(mark in value for mark in secrets().withheld.value_contains)
