"""MediQuo ``patient_consultation_finished``: a visit with its reports, prescriptions and history (mapping.md §8.1)."""

from collections.abc import Iterator

from fhirline.mappers.context import Context
from fhirline.mappers.duplicates import distinct
from fhirline.mappers.identity import Part
from fhirline.mappers.mediquo.appointment import appointment, unidentified
from fhirline.mappers.mediquo.compartment import Compartment, compartment
from fhirline.mappers.mediquo.composition import Note, fingerprint, note
from fhirline.mappers.mediquo.encounter import CONSULTATION, finished_encounter
from fhirline.mappers.mediquo.history import history
from fhirline.mappers.mediquo.payload import (
    Consultation,
    ConsultationFinished,
    FinishedPayload,
    PatientHistory,
    Report,
)
from fhirline.mappers.mediquo.prescriptions import medication_requests, referral
from fhirline.mappers.results import MappingResult, NewResource, Refused


def consultation_finished(event: ConsultationFinished, context: Context) -> MappingResult:
    payload = event.payload or FinishedPayload()
    patient = compartment(payload.patient, payload.professional, context)
    consultation = payload.consultation or Consultation()
    made, refused = _visit(consultation, patient)
    encounter = context.reference("Encounter", "consultation", patient.code, consultation.id) if made else None
    made += _reports(payload, encounter, patient)
    made += history(payload.patient or PatientHistory(), patient)
    made += medication_requests(payload, encounter, patient)
    referred = referral(payload.derivation, consultation.id, encounter, patient)
    if isinstance(referred, Refused):
        refused.append(referred)
    else:
        made += referred
    return patient.mapped(made, refused)


def _visit(consultation: Consultation, patient: Compartment) -> tuple[list[NewResource], list[Refused]]:
    """The Encounter, and the Appointment that it fulfils where one was scheduled."""
    scheduled = bool(consultation.scheduled_start_date or consultation.scheduled_end_date)
    if consultation.id is None:
        patient.skip(CONSULTATION)
        return [], [unidentified(each) for each in (("Appointment", "Encounter") if scheduled else ("Encounter",))]
    if not scheduled:
        patient.skip(f"{CONSULTATION}/created_at")
        return [finished_encounter(consultation, None, patient)], []
    fulfilled = appointment(consultation, "fulfilled", patient)
    reference = f"Appointment/{fulfilled.resource['id']}"
    return [fulfilled, finished_encounter(consultation, reference, patient)], []


def _reports(payload: FinishedPayload, encounter: str | None, patient: Compartment) -> Iterator[NewResource]:
    """One note a report; the vendor's table says object, its sample array: either, or none."""
    context = patient.context

    def key(report: Report) -> tuple[Part, ...]:
        return (report.id,) if report.id else (None, fingerprint(report.content))

    for report in distinct(context.items("/payload/reports", payload.reports), key):
        if report.model.content is None:
            patient.skip(f"{report.pointer}/content")
        made = note(
            Note(
                type=report.model.type,
                content=report.model.content or {},
                pointer=report.pointer,
                kind="report",
                key=report.key,
                identifier=context.identifier("report", report.model.id) if report.model.id else None,
                encounter=encounter,
            ),
            patient,
            report.flags,
        )
        if not made:
            patient.flags.add("report-empty", report.pointer)
            patient.skip(report.pointer)
        yield from made
