"""Altibbi ``status_update`` → Encounter, Patient, Coverage (mapping.md §9.1)."""

from fhirline.mappers.altibbi.consultation import Consultation, surroundings, unread_time, without_consultation
from fhirline.mappers.altibbi.encounter import status_fold
from fhirline.mappers.altibbi.payload import StatusUpdate
from fhirline.mappers.altibbi.transitions import TABLE
from fhirline.mappers.context import Context
from fhirline.mappers.results import Flag, MappingResult


def status_update(event: StatusUpdate, context: Context) -> MappingResult:
    """One status change of a consultation."""
    if event.user_id is None or event.consultation_id is None:
        return without_consultation(event, context)
    consultation = Consultation(context, event.user_id, event.consultation_id)
    return MappingResult(
        resources=(
            *surroundings(event, context),
            status_fold(consultation, event.old_status, event.new_status),
        ),
        flags=tuple(
            Flag("unmapped-status", (f"/{name}",), TABLE)
            for name, sent in (("old_status", event.old_status), ("new_status", event.new_status))
            if sent and context.terminology.row(TABLE, sent) is None
        ),
        # Without a new status there is no transition: what it may have left is only kept.
        omitted=(*(("/old_status",) if event.new_status is None else ()), *unread_time(context)),
    )
