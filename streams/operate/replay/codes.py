"""The codes that differ between two resources, for a person who reviews a change of the code tables.

Codes are terms, not values of a patient. To be sure of that, a code is named only where it is in a Coding, and its
system is one of the code tables or of our own code systems. Every other code is `OTHER`.
"""

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

from fhirline.config.settings import Settings
from fhirline.config.terminology import load_terminology, packaged_table
from fhirline.mappers.conformance.code_systems import declared_code_systems
from fhirline.mappers.identity import Naming

OTHER = "another code"
"""A code that is not named."""

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/-]{0,39}")
_CODING = frozenset({"id", "extension", "system", "version", "code", "display", "userSelected"})
"""Members of a Coding. A Quantity has a system and a code too, and a value."""


class CodeChange(NamedTuple):
    """A Coding that differs. ``was``, ``now``: its code; empty where there was none, or is none now."""

    path: str
    was: str
    now: str


def known_systems(settings: Settings) -> frozenset[str]:
    """Return the systems of the code tables, a deployment's own rows included, and of our own code systems."""
    naming = Naming(settings.base)
    terminology = load_terminology(settings.terminology_dir)
    found = {naming.code_system(declared) for declared in declared_code_systems()}
    for name in terminology.names:
        found |= {coding.system for row in terminology.rows(name).values() for coding in row.codings}
        if (target := packaged_table(name).target) is not None:
            found.add(target.system.replace("BASE/", f"{settings.base}/", 1))
    return frozenset(found)


def changed_codes(was: Any, now: Any, systems: frozenset[str], at: str = "") -> Iterator[CodeChange]:
    """Find the Codings that differ between two JSON values. Paths are those of `difference.differing_paths`.

    >>> before = {"code": {"coding": [{"system": "urn:s", "code": "1"}], "text": "a"}}
    >>> after = {"code": {"coding": [{"system": "urn:s", "code": "2"}, {"system": "urn:t", "code": "x"}], "text": "b"}}
    >>> for change in changed_codes(before, after, frozenset({"urn:s"})):
    ...     print(*change, sep=" | ")
    code.coding[].code | 1 | 2
    code.coding[].code |  | another code
    """
    if _is_coding(was) or _is_coding(now):
        if _identity(was) != _identity(now):
            change = CodeChange(f"{at}.code" if at else "code", _named(was, systems), _named(now, systems))
            if change.was != change.now:
                yield change
    elif isinstance(was, dict) or isinstance(now, dict):
        before, after = (item if isinstance(item, dict) else {} for item in (was, now))
        for name in {**before, **after}:
            yield from changed_codes(before.get(name), after.get(name), systems, f"{at}.{name}" if at else name)
    elif isinstance(was, list) or isinstance(now, list):
        old, new = _items(was), _items(now)
        pairs = _of_one_system(old, new) if all(map(_is_coding, old + new)) else zip_longest(old, new)
        for one, other in pairs:
            yield from changed_codes(one, other, systems, f"{at}[]")


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _of_one_system(was: list[Any], now: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Pair the Codings of two lists. One became the other where each list has one of its system, or one in all.

    Several of one system, such as the flags among a resource's tags, are added and removed one by one.
    """
    if len(was) == len(now) == 1:
        yield was[0], now[0]
        return
    for system in {str(item["system"]): None for item in was + now}:
        old, new = ([item for item in items if str(item["system"]) == system] for items in (was, now))
        if len(old) == len(new) == 1:
            yield old[0], new[0]
        else:
            identities = [_identity(item) for item in old], [_identity(item) for item in new]
            yield from ((item, None) for item in old if _identity(item) not in identities[1])
            yield from ((None, item) for item in new if _identity(item) not in identities[0])


def _is_coding(value: Any) -> bool:
    return isinstance(value, dict) and "system" in value and "code" in value and value.keys() <= _CODING


def _identity(value: Any) -> tuple[Any, Any]:
    return (value.get("system"), value.get("code")) if _is_coding(value) else (None, None)


def _named(value: Any, systems: frozenset[str]) -> str:
    system, code = _identity(value)
    if code is None:
        return ""
    return code if system in systems and isinstance(code, str) and _CODE.fullmatch(code) else OTHER
