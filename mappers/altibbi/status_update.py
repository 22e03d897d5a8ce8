"""Altibbi ``status_update`` → Encounter, Patient, Coverage (mapping.md §9.1)."""

from fhirline.mappers.altibbi.children import built_children
from fhirline.mappers.altibbi.consultation import (
    Consultation,
    patient_and_coverage,
    refuse_consultation,
    unread_time,
)
from fhirline.mappers.altibbi.encounter import status_fold
from fhirline.mappers.altibbi.payload import StatusUpdate
from fhirline.mappers.altibbi.transitions import TABLE
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.results import MappingResult


def status_update(event: StatusUpdate, context: Context) -> MappingResult:
    """Map one status change of a consultation (mapping.md §9.1)."""
    build = MappingBuilder()
    build.omit(*unread_time(context))
    build.add(*patient_and_coverage(event, context))
    if event.user_id is None or event.consultation_id is None:
        refuse_consultation(event, build)
        return build.result()
    consultation = Consultation(context, event.user_id, event.consultation_id)
    build.add(
        status_fold(consultation, event.old_status, event.new_status, lambda entries: built_children(context, entries))
    )
    for pointer, status in (("/old_status", event.old_status), ("/new_status", event.new_status)):
        if status and context.terminology.row(TABLE, status) is None:
            build.flag("unmapped-status", pointer, table=TABLE)
    if event.new_status is None:
        build.omit("/old_status")  # without a new status there is no transition
    return build.result()
