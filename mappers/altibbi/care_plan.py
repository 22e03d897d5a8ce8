"""Altibbi follow-up labels → one CarePlan (mapping.md §9.2.7)."""

from fhirline.mappers.altibbi.children import Child
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.items import identified, readable
from fhirline.mappers.altibbi.payload import Data, Named
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.duplicates import Distinct, collapsed
from fhirline.mappers.fhir.elements import annotation
from fhirline.mappers.results import Element, Flags

TABLE = "follow-up"
INSTRUCTION, NO_FOLLOW_UP = "instruction", "no-follow-up"
"""Dispositions of the code table's rows."""


def care_plan(data: Data, consultation: Consultation, build: MappingBuilder) -> list[Child]:
    """Make the CarePlan; none without labels.

    A label that the code table calls an instruction is an activity. All others are notes: a negative label is never
    ``doNotPerform``.
    """
    items = readable(consultation.context, "/data/followUp", data.followUp, build)
    labels = collapsed(identified(items, "name", build=build))
    if not labels:
        return []
    flags = Flags(*(flag for label in labels for flag in label.flags))
    names = [label.model.name or "" for label in labels]
    dispositions = [_disposition(label, consultation, flags) for label in labels]
    if {INSTRUCTION, NO_FOLLOW_UP} <= set(dispositions):
        flags.add("follow-up-contradiction", *(label.pointer for label in labels))
    disposed = list(zip(names, dispositions, strict=True))
    resource = consultation.resource(
        "CarePlan",
        "followup",
        (),
        status="active",
        intent="plan",
        subject=consultation.subject,
        encounter=consultation.encounter,
        created=consultation.time,
        _created=consultation.time_basis,
        activity=[_activity(name) for name, disposition in disposed if disposition == INSTRUCTION],
        note=[annotation(name) for name, disposition in disposed if disposition != INSTRUCTION],
    )
    return [Child(resource, flags, tuple(names))]


def _activity(name: str) -> Element:
    return {"detail": {"status": "not-started", "description": name}}


def _disposition(label: Distinct[Named], consultation: Consultation, flags: Flags) -> str | None:
    """Look a label up in the code table."""
    row = consultation.context.terminology.row(TABLE, label.model.name)
    if row is None:
        flags.add("unmapped-code", f"{label.pointer}/name", table=TABLE)
        return None
    return str(row.means["disposition"])
