"""Altibbi drug → Dosage (mapping.md §9.2.4): structured where a code table has a row, and always in words."""

import re
from decimal import Decimal

from fhirline.config.terminology import Row
from fhirline.mappers.altibbi.payload import FdaDrug
from fhirline.mappers.context import Context
from fhirline.mappers.duplicates import Distinct
from fhirline.mappers.fhir.elements import UCUM, codeable_concept, decimal, element, listed
from fhirline.mappers.results import Element

FREQUENCY, UNIT, ROUTE, FORM = "frequency", "dose-unit", "route", "form"
"""Code tables (mapping.md §12.1 to §12.3)."""

DURATION_UNITS = {"d": "day", "wk": "week"}

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,8})?", re.ASCII)


def dosage(drug: Distinct[FdaDrug], context: Context) -> Element | None:
    """Make the Dosage of a drug; None where nothing of it is sent."""
    sent = drug.model
    return element(
        text=_text(sent, context),
        additionalInstruction=listed(codeable_concept(text=sent.relationWithFood)),
        patientInstruction="\n".join(filter(None, (sent.specialInstructions, sent.howToUse))),
        timing=_timing(drug, context),
        route=_route(drug, context),
        doseAndRate=listed(element(doseQuantity=_dose_quantity(drug, context))),
    )


def _text(drug: FdaDrug, context: Context) -> str:
    """Join what was sent, in a fixed order and in the vendor's own words."""
    parts = (
        ("dosage", drug.dosage),
        ("unit", drug.dosageUnit),
        ("route", drug.routeOfAdministration),
        ("form", drug.dosageForm),
        ("", drug.frequency),
        ("duration", drug.duration and drug.duration + _duration_unit(drug.duration, context)),
    )
    return "; ".join(f"{label} {value}".strip() for label, value in parts if value)


def _duration_unit(duration: str, context: Context) -> str:
    """Return in words which unit of a duration is assumed, since none is ever sent."""
    if number(duration) is None:
        return ""
    unit = context.settings.duration_unit
    return f" (unit not stated; read as {DURATION_UNITS[unit]})" if unit else " (unit not stated)"


def number(text: str | None) -> Decimal | None:
    """Read a text that is a plain number; None for anything else (mapping.md §1, rule 4)."""
    return Decimal(text.strip()) if text and _NUMBER.fullmatch(text.strip()) else None


def _timing(drug: Distinct[FdaDrug], context: Context) -> Element | None:
    """Make the Timing: ``repeat`` and ``code`` from the frequency's row (mapping.md §12.1)."""
    row = _row(FREQUENCY, "frequency", drug.model.frequency, drug, context)
    means = row.means if row else {}
    return element(
        repeat=element(
            boundsDuration=_bounds_duration(drug, context),
            frequency=means.get("frequency"),
            period=means.get("period"),
            periodUnit=means.get("period_unit"),
        ),
        code=codeable_concept(*context.curated(row), text=drug.model.frequency),
    )


def _bounds_duration(drug: Distinct[FdaDrug], context: Context) -> Element | None:
    """Make the Duration, only where the tenant knows its unit: ``drt-1`` requires a code, and none is sent.

    The caller keeps what was sent as ``source-value``.
    """
    sent, unit = drug.model.duration, context.settings.duration_unit
    if sent is None:
        return None
    value = decimal(number(sent))
    if value is None:
        drug.flags.add("value-unreadable", f"{drug.pointer}/duration")
        return None
    if unit is None:
        drug.flags.add("duration-unit-unknown", f"{drug.pointer}/duration")
        return None
    return element(
        extension=[context.value_basis("config")], value=value, unit=DURATION_UNITS[unit], system=UCUM, code=unit
    )


def _route(drug: Distinct[FdaDrug], context: Context) -> Element | None:
    """Make the route (mapping.md §12.3)."""
    row = _row(ROUTE, "routeOfAdministration", drug.model.routeOfAdministration, drug, context)
    return codeable_concept(*context.curated(row), text=drug.model.routeOfAdministration)


def _dose_quantity(drug: Distinct[FdaDrug], context: Context) -> Element | None:
    """Make the Quantity (mapping.md §12.2). It gets no code where unit and form contradict each other."""
    value, unit = decimal(number(drug.model.dosage)), drug.model.dosageUnit
    row = _row(UNIT, "dosageUnit", unit, drug, context)
    form = context.terminology.row(FORM, drug.model.dosageForm)
    conflict = row and form and row.means["dose_class"] != form.means["dose_class"]
    if conflict:
        drug.flags.add("dose-unit-form-conflict", f"{drug.pointer}/dosageUnit", f"{drug.pointer}/dosageForm")
    if value is None:
        return None
    coded = next(iter(context.curated(row)), None) if not conflict else None
    return element(
        value=value,
        unit=row.means.get("unit", unit) if row and coded else unit,
        system=coded["system"] if coded else None,
        code=coded["code"] if coded else None,
    )


def _row(table: str, name: str, words: str | None, drug: Distinct[FdaDrug], context: Context) -> Row | None:
    """Look words up in a code table; flag words without a row, so that they are counted."""
    return context.look_up(table, words, f"{drug.pointer}/{name}", drug.flags)
