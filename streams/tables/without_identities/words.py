"""The words and codes that are shown as they are, because no sender can put an identity into them."""

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from importlib.resources import files
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict

from fhirline.config.settings import Settings
from fhirline.config.table_digests import digest
from fhirline.config.tables import Table, read_table
from fhirline.config.terminology import Terminology, load_terminology, norm
from fhirline.config.vendors import load_vendors
from fhirline.mappers.conformance.code_systems import concepts_of, declared_code_systems
from fhirline.mappers.conformance.definition import Deployment
from fhirline.mappers.identity import Naming
from fhirline.topics.declared import RESOURCE_TYPES

TABLE = "without_identities/words.yaml"
BINDINGS = "r4-required-bindings.json"
BASE = "BASE/"

MOST_DIGITS = 6
"""Most digits of a number that is kept. Longer ones may be telephone numbers, dates or record numbers."""


class System(BaseModel):
    """A code system, with the form of its codes, and the algorithm of their last digit. Without a form, words only."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    system: str
    form: re.Pattern[str] | None = None
    check: Literal["mod10", "verhoeff"] | None = None


class WithoutIdentities(Table):
    """``without_identities/words.yaml``: words, code systems, and codes of ages."""

    words: tuple[tuple[str, ...], ...]
    systems: tuple[System, ...]
    ages: frozenset[str]


class Words:
    """All words that are shown, and the forms of codes. ``digest`` changes with them."""

    def __init__(self, words: Mapping[str, str], systems: Mapping[str, System], ages: frozenset[str]) -> None:
        self._words = words
        self._systems = systems
        self.ages = ages
        self.digest = digest([dict(words), [str(system) for system in systems.values()], sorted(ages)])

    def word(self, text: str) -> str | None:
        """Return a known word, or None. Words of code tables are found whatever their case and white space."""
        return self._words.get(text) or self._words.get(norm(text))

    def has_form(self, code: str, system: str | None) -> bool:
        """Tell whether a code has the form of its system, and the right check digit."""
        found = self._systems.get(system or "")
        if found is None or found.form is None or not found.form.fullmatch(code):
            return False
        return found.check is None or _CHECKS[found.check](code)


def load_words(settings: Settings) -> Words:
    """Load the words of a deployment. Raises ConfigurationError."""
    table = read_table(TABLE, WithoutIdentities)
    terminology = load_terminology(settings.terminology_dir)
    deployment = Deployment(Naming(settings.base), load_vendors(settings.vendors_file), terminology, "")
    systems = {
        system.system.replace(BASE, f"{settings.base}/", 1) if system.system.startswith(BASE) else system.system: system
        for system in table.systems
    }
    known = {word: word for word in _known(table, terminology, deployment)}
    known |= {system: system for system in systems}
    sources = {norm(word): norm(word) for word in (*known, *_sources(terminology))}
    return Words(sources | known, systems, table.ages)


def _known(table: WithoutIdentities, terminology: Terminology, deployment: Deployment) -> Iterator[str]:
    """Yield codes of R4, of ours, and those that rows of code tables give."""
    yield from (word for line in table.words for word in line)
    yield from RESOURCE_TYPES
    for codes in orjson.loads((files("fhirline.config") / BINDINGS).read_bytes()).values():
        yield from codes
    for system in declared_code_systems():
        yield deployment.url("CodeSystem", system.name)
        if not system.open:
            yield from (concept.code for concept in concepts_of(system, deployment))
    for name in terminology.names:
        for row in terminology.rows(name).values():
            yield from (coding.code for coding in row.codings)
            yield from (value for value in row.means.values() if isinstance(value, str))


def _sources(terminology: Terminology) -> Iterator[str]:
    """Yield the vendors' words that a code table has a row for, normalized."""
    for name in terminology.names:
        yield from terminology.rows(name)


def short_number(value: Any) -> int | float | None:
    """Return a number that has few digits, or None.

    >>> short_number(71.5), short_number(5551234567), short_number(40.41678)
    (71.5, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    exact = Decimal(str(value))
    if not exact.is_finite():
        return None
    whole, fraction = max(exact.adjusted() + 1, 0), max(-int(exact.normalize().as_tuple().exponent), 0)
    return value if whole + fraction <= MOST_DIGITS else None


def _mod10(code: str) -> bool:
    """Check the last digit of a LOINC code.

    >>> _mod10("75325-1"), _mod10("75325-2")
    (True, False)
    """
    digits = [int(digit) for digit in reversed(code.replace("-", ""))]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


_FIRST: tuple[int, ...] = tuple(range(10))
_NEXT = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _verhoeff(code: str) -> bool:
    """Check the last digit of a SNOMED CT identifier (Verhoeff's dihedral check).

    >>> _verhoeff("108252007"), _verhoeff("108252008")
    (True, False)
    """
    check = 0
    permutation = _FIRST
    for digit in reversed(code):
        check = _times(check, permutation[int(digit)])
        permutation = tuple(_NEXT[item] for item in permutation)
    return check == 0


def _times(left: int, right: int) -> int:
    """Multiply in the dihedral group of ten elements."""
    if left < 5:
        return (left + right) % 5 if right < 5 else 5 + (left + right) % 5
    return 5 + (left - right) % 5 if right < 5 else (left - right) % 5


_CHECKS: Mapping[str, Callable[[str], bool]] = {"mod10": _mod10, "verhoeff": _verhoeff}
