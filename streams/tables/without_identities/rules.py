"""The rules of columns: what becomes of a value in the tables without identities.

A column's tag ``fhirline/without-identities`` is the name of a rule, with another column or a code system behind it
where the rule needs one: ``hash``, ``shift``, ``year``, ``word``, ``code code_system``, ``code http://loinc.org``,
``number``, ``measure code``, ``keep``. A column without the tag is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.views.definition import WITHOUT_IDENTITIES
from fhirline.streams.tables.views.view import Column, Row, View
from fhirline.streams.tables.without_identities import dates
from fhirline.streams.tables.without_identities.keyed import Keyed
from fhirline.streams.tables.without_identities.words import Words, short_number

Rule: TypeAlias = Callable[[Any, Row, str | None], Any]
"""Makes what is shown of a value, its row and the id of the row's patient. The value is not None."""

OLDEST_AGE = 89

MEANINGS = {
    "hash": "Replaced by a keyed hash.",
    "shift": "Moved by the patient's days; the year only where no patient is known.",
    "year": "The year; one group for ages over 89.",
    "word": "Known words only.",
    "code": "Known codes, and codes of the right form; else a keyed hash.",
    "number": "Numbers of six digits at most.",
    "measure": "Numbers of six digits at most, beside a code.",
    "keep": "As it is.",
}
"""Words for each rule in the description of a column."""

_TYPES = {
    "number": frozenset({"decimal", "integer", "integer64", "positiveInt", "unsignedInt"}),
    "measure": frozenset({"decimal", "integer", "integer64", "positiveInt", "unsignedInt"}),
    "keep": frozenset({"boolean", "integer"}),
    "shift": frozenset({"date", "dateTime", "instant"}),
    "year": frozenset({"date", "dateTime", "instant"}),
}
"""The types of columns that a rule is for; others are for texts."""

_NEEDS = frozenset({"code", "measure"})


@dataclass(frozen=True, slots=True)
class Means:
    """The key and the vocabulary that rules need. ``years_only``: dates are cut to the year instead of moved."""

    keyed: Keyed
    words: Words
    oldest_year: int
    years_only: bool = False


def rules_of(view: View, means: Means) -> dict[str, tuple[Column, Rule]]:
    """Return the columns of a view that are shown, as they are then, with their rules. Raises ConfigurationError."""
    found = {}
    for number, column in enumerate(view.columns):
        tag = "hash" if number == 0 else column.without_identities
        if tag:
            found[column.name] = _ruled(view, column, tag, means)
    return found


def require_rules(view: View) -> None:
    """Raise ConfigurationError where a tag of a view names no rule, or one that is not for its column."""
    rules_of(view, Means(Keyed(""), Words({}, {}, frozenset()), 0))


def _ruled(view: View, column: Column, tag: str, means: Means) -> tuple[Column, Rule]:
    name, _, argument = tag.partition(" ")
    place = f"view {view.name}: column {column.name}: {WITHOUT_IDENTITIES}"
    if name not in MEANINGS:
        raise ConfigurationError(f"{place}: no rule is called {name!r}: write one of {', '.join(MEANINGS)}")
    allowed = _TYPES.get(name)
    if column.type not in allowed if allowed else column.type in _NO_TEXTS:
        raise ConfigurationError(f"{place}: {name} is not for columns of type {column.type}; choose another rule")
    if bool(argument) != (name in _NEEDS):
        raise ConfigurationError(
            f"{place}: {name}: "
            + ("write a column or a code system behind it" if name in _NEEDS else "nothing may be behind it")
        )
    rule = _RULES[name](view, argument, place, means)
    if column.collection:
        rule = _each(rule)
    meaning = "The year." if name == "shift" and means.years_only else MEANINGS[name]
    described = f"{column.description} {meaning}".strip()
    type = "dateTime" if name in ("shift", "year") else column.type  # a year is no instant
    return replace(column, type=type, description=described), rule


_NO_TEXTS = frozenset({"boolean", "date", "dateTime", "decimal", "instant", "time"}) | _TYPES["number"]


def _hash(view: View, argument: str, place: str, means: Means) -> Rule:
    return lambda value, row, patient: means.keyed.hash(value)


def _shift(view: View, argument: str, place: str, means: Means) -> Rule:
    def rule(value: str, row: Row, patient: str | None) -> str | None:
        if patient is None or means.years_only:
            return dates.year(value)
        return dates.shifted(value, means.keyed.days(patient))

    return rule


def _year(view: View, argument: str, place: str, means: Means) -> Rule:
    of = dates.birth_year(means.oldest_year)
    return lambda value, row, patient: of(value)


def _word(view: View, argument: str, place: str, means: Means) -> Rule:
    return lambda value, row, patient: means.words.word(value)


def _code(view: View, argument: str, place: str, means: Means) -> Rule:
    """Keep a code. ``argument``: its system, or the column that names it."""
    words = means.words
    at = None if ":" in argument else _place_of(view, argument, place)

    def rule(value: str, row: Row, patient: str | None) -> str:
        system = argument if at is None else row[at]
        if words.has_form(value, system):
            return value
        return words.word(value) or means.keyed.hash(value)

    return rule


def _number(view: View, argument: str, place: str, means: Means) -> Rule:
    return lambda value, row, patient: short_number(value)


def _measure(view: View, argument: str, place: str, means: Means) -> Rule:
    """Keep the number of a row that has a code: what it measures is known, and an age over 89 is none."""
    at, ages = _place_of(view, argument, place), means.words.ages

    def rule(value: Any, row: Row, patient: str | None) -> Any:
        if row[at] is None or (row[at] in ages and value > OLDEST_AGE):
            return None
        return short_number(value)

    return rule


def _keep(view: View, argument: str, place: str, means: Means) -> Rule:
    return lambda value, row, patient: value


_RULES: Mapping[str, Callable[[View, str, str, Means], Rule]] = {
    "hash": _hash,
    "shift": _shift,
    "year": _year,
    "word": _word,
    "code": _code,
    "number": _number,
    "measure": _measure,
    "keep": _keep,
}


def _place_of(view: View, name: str, place: str) -> int:
    names = [column.name for column in view.columns]
    if name not in names:
        raise ConfigurationError(f"{place}: the view has no column {name}")
    return names.index(name)


def _each(rule: Rule) -> Rule:
    def of_list(values: Sequence[Any], row: Row, patient: str | None) -> list[Any]:
        return [None if value is None else rule(value, row, patient) for value in values]

    return of_list
