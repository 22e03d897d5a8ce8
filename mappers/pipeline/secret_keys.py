"""The comparison of keys with config/secrets.yaml (mapping.md §7)."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

from fhirline.config.tables import secrets

LONGEST_CACHED = 100
"""Length of the longest key of which the treatment is cached: keys are a sender's, and may be megabytes long."""

_SEPARATORS = re.compile(r"[.\[\]/:>|\\]+")
"""What separates the keys of a path that was flattened to one key: ``dispense.url``, ``data[dispense][url]``."""


class Treatment(NamedTuple):
    """The treatment of a key: redacted with everything below it, and the keys that are redacted below it."""

    redacted: bool
    below: frozenset[str]
    names: frozenset[str]
    """The forms of the key to look for among the keys that a parent redacts."""


def comparable(key: str) -> str:
    """Return a key as ``secrets.yaml`` compares it: NFKC, case folded, letters and digits only.

    White space, zero-width characters, punctuation and combining marks are dropped; full-width letters are plain ones.
    """
    if key.isascii():
        return "".join(filter(str.isalnum, key.casefold()))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", key).casefold())
    return "".join(filter(str.isalnum, folded))


@cache
def redacted_names() -> frozenset[str]:
    """Return the keys of ``redacted``, as `comparable`."""
    return frozenset(map(comparable, secrets().redacted))


@cache
def redacted_below() -> dict[str, frozenset[str]]:
    """Return the table ``redacted_below``, parent → keys, as `comparable`."""
    return {comparable(parent): frozenset(map(comparable, keys)) for parent, keys in secrets().redacted_below.items()}


@cache
def table_names() -> frozenset[str]:
    """Return every word of the table, as `comparable`: such a key below a secret one cannot be data."""
    table = secrets()
    words = (*table.shown_below, *table.withheld.exact, *table.withheld.contains, *table.withheld.exact_if_opaque)
    parents, below = redacted_below(), frozenset[str]().union(*redacted_below().values())
    return frozenset({*redacted_names(), *parents, *below, *map(comparable, words)})


def treatment(key: str) -> Treatment:
    """Return the treatment of a key."""
    return _cached(key) if len(key) <= LONGEST_CACHED else _treatment(key)


def _treatment(key: str) -> Treatment:
    names = frozenset(form for part in _parts(key) for form in _forms(comparable(part)))
    further = frozenset[str]().union(*(redacted_below().get(name, ()) for name in names))
    return Treatment(bool(names & redacted_names() or names & further), further, names)


_cached: Callable[[str], Treatment] = lru_cache(maxsize=4096)(_treatment)


def _parts(key: str) -> tuple[str, ...]:
    """Return the key, and the keys of which it consists where it is a flattened path."""
    plain = key if key.isascii() else unicodedata.normalize("NFKC", key)
    parts = _SEPARATORS.split(plain)
    return (key, *parts) if len(parts) > 1 else (key,)


def _forms(name: str) -> tuple[str, ...]:
    """Return a name, also without the number or the plural s at its end."""
    short = name.rstrip("0123456789")
    return (name, short, short.removesuffix("s")) if short else (name,)


def secret_key(key: str) -> bool:
    """Return whether a leaf without a rule is withheld because of its key (last row of mapping.md §7)."""
    return _secret_key(key) if len(key) <= LONGEST_CACHED else _is_secret(key)


def _is_secret(key: str) -> bool:
    rule = secrets().withheld
    found = treatment(key)
    exact = frozenset(map(comparable, rule.exact))
    return found.redacted or any(
        name in exact or any(word in name for word in rule.contains) for name in map(comparable, _parts(key))
    )


_secret_key: Callable[[str], bool] = lru_cache(maxsize=4096)(_is_secret)


@lru_cache(maxsize=4096)
def _secret_if_opaque(key: str) -> bool:
    return comparable(key) in map(comparable, secrets().withheld.exact_if_opaque)


def secret_if_opaque(key: str) -> bool:
    """Return whether a leaf without a rule is withheld because of its key, if its value is opaque (mapping.md §7)."""
    return len(key) <= LONGEST_CACHED and _secret_if_opaque(key)
