"""MediQuo ``patient_consultation_finished``: a visit with its reports, prescriptions and history (mapping.md §8.1)."""

from collections.abc import Iterator

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.duplicates import distinct
from fhirline.mappers.identity import Part
from fhirline.mappers.mediquo.appointment import appointment, refuse_without_id
from fhirline.mappers.mediquo.composition import Note, documents, fingerprint
from fhirline.mappers.mediquo.encounter import CONSULTATION, finished_encounter
from fhirline.mappers.mediquo.history import history
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import (
    Consultation,
    ConsultationFinished,
    FinishedPayload,
    PatientHistory,
    Report,
)
from fhirline.mappers.mediquo.prescriptions import medication_requests, referral
from fhirline.mappers.results import MappingResult, NewResource


def consultation_finished(event: ConsultationFinished, context: Context) -> MappingResult:
    """Map a finished consultation (mapping.md §8.1)."""
    payload = event.payload or FinishedPayload()
    patient = PatientEvent.of(payload.patient, payload.professional, context)
    consultation = payload.consultation or Consultation()
    build = MappingBuilder()
    build.add(*patient.people())  # §4.3, §8.1.2
    encounter = None
    if visit := _visit(consultation, patient, build):  # §8.1.1, §8.3
        build.add(*visit)
        encounter = context.reference("Encounter", "consultation", patient.code, consultation.id)
    build.add(*_reports(payload, encounter, patient, build))  # §8.1.3
    build.add(*history(payload.patient or PatientHistory(), patient, build))  # §8.1.4 to §8.1.6, §8.1.8
    build.add(*medication_requests(payload, encounter, patient, build))  # §8.1.7
    build.add(referral(payload.derivation, consultation.id, encounter, patient, build))  # §8.3
    return patient.result(build)


def _visit(consultation: Consultation, patient: PatientEvent, build: MappingBuilder) -> list[NewResource]:
    """Make the Encounter and, where one was scheduled, the Appointment that it fulfils; neither without an id."""
    scheduled = bool(consultation.scheduled_start_date or consultation.scheduled_end_date)
    if consultation.id is None:
        refuse_without_id(build, *(("Appointment", "Encounter") if scheduled else ("Encounter",)))
        return []
    if not scheduled:
        build.omit(f"{CONSULTATION}/created_at")
        return [finished_encounter(consultation, None, patient, build)]
    fulfilled = appointment(consultation, "fulfilled", patient, build)
    reference = f"Appointment/{fulfilled.resource['id']}"
    return [fulfilled, finished_encounter(consultation, reference, patient, build)]


def _reports(
    payload: FinishedPayload, encounter: str | None, patient: PatientEvent, build: MappingBuilder
) -> Iterator[NewResource]:
    """Make the documents of each report. The vendor's table calls ``reports`` an object, its sample is an array."""
    context = patient.context

    def key(report: Report) -> tuple[Part, ...]:
        return (report.id,) if report.id else (None, fingerprint(report.content))

    for report in distinct(context.items("/payload/reports", payload.reports), key):
        if report.model.content is None:
            build.omit(f"{report.pointer}/content")
        sent = Note(
            type=report.model.type,
            content=report.model.content or {},
            pointer=report.pointer,
            kind="report",
            key=report.key,
            identifier=context.identifier("report", report.model.id) if report.model.id else None,
            encounter=encounter,
        )
        made = documents(sent, patient, report.flags)
        if not made:
            build.flag("report-empty", report.pointer)
            build.omit(report.pointer)
        yield from made
