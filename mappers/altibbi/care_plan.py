"""Altibbi follow-up labels → one CarePlan (mapping.md §9.2.7)."""

from fhirline.mappers.altibbi.children import Child, Unused
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.payload import Data, Named
from fhirline.mappers.duplicates import Distinct, collapsed
from fhirline.mappers.fhir.elements import annotation
from fhirline.mappers.results import Element, Flags

TABLE = "follow-up"


def follow_up(data: Data, consultation: Consultation, unused: Unused) -> list[Child]:
    """Labels that the curated table calls instructions are activities; all others, also negative ones, are notes."""
    context = consultation.context
    items = context.items("/data/followUp", data.followUp)
    labels = collapsed(item for item in items if unused.unless(item, item.model.name))
    if not labels:
        return []
    flags = Flags(*(flag for label in labels for flag in label.flags))
    dispositions = [_disposition(label, consultation, flags) for label in labels]
    if {"instruction", "no-follow-up"} <= set(dispositions):
        flags.add("follow-up-contradiction", *(label.pointer for label in labels))
    said = list(zip((label.model.name or "" for label in labels), dispositions, strict=True))
    plan = consultation.resource(
        "CarePlan",
        "followup",
        (),
        status="active",
        intent="plan",
        subject=consultation.to_patient,
        encounter=consultation.to_encounter,
        created=consultation.time,
        _created=consultation.time_basis,
        activity=[_activity(name) for name, disposition in said if disposition == "instruction"],
        note=[annotation(name) for name, disposition in said if disposition != "instruction"],
    )
    return [Child(plan, flags, tuple(name for name, _ in said))]


def _activity(name: str) -> Element:
    return {"detail": {"status": "not-started", "description": name}}


def _disposition(label: Distinct[Named], consultation: Consultation, flags: Flags) -> str | None:
    row = consultation.context.terminology.row(TABLE, label.model.name)
    if row is None:
        flags.add("unmapped-code", f"{label.pointer}/name", table=TABLE)
        return None
    return str(row.means["disposition"])
