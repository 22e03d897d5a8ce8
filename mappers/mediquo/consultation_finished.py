"""MediQuo ``patient_consultation_finished``: a visit with its reports, prescriptions and history (mapping.md §8.1)."""

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import reference
from fhirline.mappers.mediquo.appointment import appointment, refuse_without_id
from fhirline.mappers.mediquo.encounter import CONSULTATION, finished_encounter
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import Consultation, ConsultationFinished, FinishedPayload
from fhirline.mappers.mediquo.prescriptions import referral
from fhirline.mappers.mediquo.record import record
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
        encounter = reference(context.reference("Encounter", "consultation", patient.code, consultation.id))
    build.add(*record(payload, consultation.id, encounter, patient, build))  # §8.1.3 to §8.1.8
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
