"""R4's invariants of datatypes, each function named by its key (see `invariants`)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fhirline.mappers.results import Element

UCUM = "http://unitsofmeasure.org"

Invariant = Callable[[Element], bool]

CONCERNS: dict[Invariant, tuple[str, ...]] = {}
"""Rule → element names. Without any of them the rule holds and is not called. ``abatement*`` is a choice."""


def concerns(*names: str) -> Callable[[Invariant], Invariant]:
    """Declare the `CONCERNS` of a rule."""

    def declare(rule: Invariant) -> Invariant:
        CONCERNS[rule] = names
        return rule

    return declare


def exists(element: Element, name: str) -> bool:
    """Evaluate FHIRPath's ``name.exists()`` of a primitive: it has a value or a companion."""
    return name in element or f"_{name}" in element


def any_of_choice(element: Element, prefix: str) -> bool:
    """Evaluate FHIRPath's ``exists()`` of a choice (``value[x]``)."""
    return any(name.startswith((prefix, f"_{prefix}")) for name in element)


def later(one: str, other: str) -> bool:
    """Return whether a date or dateTime is certainly after another; a difference in precision alone is not."""
    if len(one) == len(other) and one[-1] == "Z" == other[-1]:
        return one > other
    if "T" in one and "T" in other:
        return _instant(one) > _instant(other)
    precision = min(len(one.partition("T")[0]), len(other.partition("T")[0]))
    return one[:precision] > other[:precision]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace(":60", ":59"))  # datetime has no leap seconds


def _unit(quantity: Element) -> Any:
    return quantity.get("system"), quantity.get("code", quantity.get("unit"))


def age_1(age: Element) -> bool:
    """There SHALL be a code if there is a value; if system is present, it SHALL be UCUM; the value SHALL be positive.

    ``(code.exists() or value.empty()) and (system.empty() or system = %ucum) and (value.empty() or
    value.hasValue().not() or value > 0)``
    """
    return (
        (exists(age, "code") or not exists(age, "value"))
        and age.get("system", UCUM) == UCUM
        and ("value" not in age or age["value"] > 0)
    )


@concerns("data", "_data")
def att_1(attachment: Element) -> bool:
    """If the Attachment has data, it SHALL have a contentType

    ``data.empty() or contentType.exists()``
    """
    return not exists(attachment, "data") or exists(attachment, "contentType")


def cnt_3(count: Element) -> bool:
    """There SHALL be a code with a value of "1" if there is a value; the value SHALL be a whole number.

    ``(code.exists() or value.empty()) and (system.empty() or system = %ucum) and (code.empty() or code = '1') and
    (value.empty() or value.hasValue().not() or value.toString().contains('.').not())``
    """
    return (
        (exists(count, "code") or not exists(count, "value"))
        and count.get("system", UCUM) == UCUM
        and count.get("code", "1") == "1"
        and count.get("value", 0) % 1 == 0
    )


def cpt_2(contact_point: Element) -> bool:
    """A system is required if a value is provided.

    ``value.empty() or system.exists()``
    """
    return "system" in contact_point or "_system" in contact_point or not exists(contact_point, "value")


def dis_1(distance: Element) -> bool:
    """There SHALL be a code if there is a value; if system is present, it SHALL be UCUM.

    ``(code.exists() or value.empty()) and (system.empty() or system = %ucum)``
    """
    return (exists(distance, "code") or not exists(distance, "value")) and distance.get("system", UCUM) == UCUM


@concerns("code", "_code")
def drt_1(duration: Element) -> bool:
    """There SHALL be a code if there is a value and it SHALL be an expression of time; the system SHALL be UCUM.

    ``code.exists() implies ((system = %ucum) and value.exists())``
    """
    return not exists(duration, "code") or (duration.get("system") == UCUM and exists(duration, "value"))


def exp_1(expression: Element) -> bool:
    """An expression or a reference must be provided

    ``expression.exists() or reference.exists()``
    """
    return exists(expression, "expression") or exists(expression, "reference")


def ext_1(extension: Element) -> bool:
    """Must have either extensions or value[x], not both

    ``extension.exists() != value.exists()``
    """
    if len(extension) == 2 and "url" in extension:  # the common one: url and one more
        return "id" not in extension
    return ("extension" in extension) != any_of_choice(extension, "value")


@concerns("end")
def per_1(period: Element) -> bool:
    """If present, start SHALL have a lower value than end

    ``start.hasValue().not() or end.hasValue().not() or (start <= end)``
    """
    return "start" not in period or "end" not in period or not later(period["start"], period["end"])


@concerns("code", "_code")
def qty_3(quantity: Element) -> bool:
    """If a code for the unit is present, the system SHALL also be present

    ``code.empty() or system.exists()``
    """
    return "system" in quantity or not exists(quantity, "code") or "_system" in quantity


def rat_1(ratio: Element) -> bool:
    """Numerator and denominator SHALL both be present, or both are absent; then there SHALL be some extension present

    ``(numerator.empty() xor denominator.exists()) and (numerator.exists() or extension.exists())``
    """
    return ("numerator" in ratio) == ("denominator" in ratio) and ("numerator" in ratio or "extension" in ratio)


@concerns("high")
def rng_2(range_: Element) -> bool:
    """If present, low SHALL have a lower value than high

    ``low.empty() or high.empty() or (low <= high)``
    """
    low, high = range_.get("low", {}), range_.get("high", {})
    return "value" not in low or "value" not in high or _unit(low) != _unit(high) or low["value"] <= high["value"]


@concerns("duration", "_duration")
def tim_1(repeat: Element) -> bool:
    """if there's a duration, there needs to be duration units

    ``duration.empty() or durationUnit.exists()``
    """
    return not exists(repeat, "duration") or exists(repeat, "durationUnit")


@concerns("period", "_period")
def tim_2(repeat: Element) -> bool:
    """if there's a period, there needs to be period units

    ``period.empty() or periodUnit.exists()``
    """
    return not exists(repeat, "period") or exists(repeat, "periodUnit")


@concerns("duration")
def tim_4(repeat: Element) -> bool:
    """duration SHALL be a non-negative value

    ``duration.exists() implies duration >= 0``
    """
    return bool(repeat.get("duration", 0) >= 0)


@concerns("period")
def tim_5(repeat: Element) -> bool:
    """period SHALL be a non-negative value

    ``period.exists() implies period >= 0``
    """
    return bool(repeat.get("period", 0) >= 0)


@concerns("periodMax", "_periodMax")
def tim_6(repeat: Element) -> bool:
    """If there's a periodMax, there must be a period

    ``periodMax.empty() or period.exists()``
    """
    return not exists(repeat, "periodMax") or exists(repeat, "period")


@concerns("durationMax", "_durationMax")
def tim_7(repeat: Element) -> bool:
    """If there's a durationMax, there must be a duration

    ``durationMax.empty() or duration.exists()``
    """
    return not exists(repeat, "durationMax") or exists(repeat, "duration")


@concerns("countMax", "_countMax")
def tim_8(repeat: Element) -> bool:
    """If there's a countMax, there must be a count

    ``countMax.empty() or count.exists()``
    """
    return not exists(repeat, "countMax") or exists(repeat, "count")


@concerns("offset", "_offset")
def tim_9(repeat: Element) -> bool:
    """If there's an offset, there must be a when (and not C, CM, CD, CV)

    ``offset.empty() or (when.exists() and when.select($this in ('C' | 'CM' | 'CD' | 'CV')).allFalse())``
    """
    if not exists(repeat, "offset"):
        return True
    return exists(repeat, "when") and not {"C", "CM", "CD", "CV"}.intersection(repeat.get("when", ()))


@concerns("timeOfDay", "_timeOfDay")
def tim_10(repeat: Element) -> bool:
    """If there's a timeOfDay, there cannot be a when, or vice versa

    ``timeOfDay.empty() or when.empty()``
    """
    return not exists(repeat, "timeOfDay") or not exists(repeat, "when")
