"""MediQuo's scheduled ``consultation`` → Appointment, and the events that schedule one (mapping.md §8.3)."""

from collections.abc import Callable

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.fhir.elements import element, listed
from fhirline.mappers.mediquo.declarations import CHANNEL
from fhirline.mappers.mediquo.encounter import (
    CONSULTATION,
    consultation_source_data,
    service_type,
    unmade_encounter,
    vendor_concept,
)
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import AppointmentEvent, AppointmentPayload, ScheduledConsultation
from fhirline.mappers.mediquo.record import record
from fhirline.mappers.results import Flags, MappingResult, NewResource
from fhirline.mappers.times import inverted


def appointment_event(status: str) -> Callable[[AppointmentEvent, Context], MappingResult]:
    """Return the mapping of the events after which an appointment has ``status`` (mapping.md §8.3)."""

    def mapping(event: AppointmentEvent, context: Context) -> MappingResult:
        payload = event.payload or AppointmentPayload()
        patient = PatientEvent.of(payload.patient, payload.professional, context)
        build = MappingBuilder()
        build.add(*patient.people())
        consultation = payload.consultation or ScheduledConsultation()
        if consultation.id is None:
            refuse_without_id(build, "Appointment")
        else:
            build.add(appointment(consultation, status, patient, build))
        visit = unmade_encounter(consultation.id, context)
        build.add(*record(payload, consultation.id, visit, patient, build))  # §8.1.3 to §8.1.8
        return patient.result(build)

    return mapping


def refuse_without_id(build: MappingBuilder, *resource_types: str) -> None:
    """Refuse what a consultation without an id would make: it would overwrite another consultation's."""
    for resource_type in resource_types:
        build.refuse(resource_type, "resource-refused", f"{CONSULTATION}/id")
    build.omit(CONSULTATION)


def appointment(
    consultation: ScheduledConsultation, status: str, patient: PatientEvent, build: MappingBuilder
) -> NewResource:
    """Make the Appointment (mapping.md §8.3)."""
    context, flags = patient.context, Flags()
    start_at, end_at = f"{CONSULTATION}/scheduled_start_date", f"{CONSULTATION}/scheduled_end_date"
    start = context.date_time(consultation.scheduled_start_date, start_at, flags)
    end = context.date_time(consultation.scheduled_end_date, end_at, flags)
    created = context.date_time(consultation.created_at, f"{CONSULTATION}/created_at", flags)
    if start and end and inverted(start, end):
        flags.add("period-inverted", end_at)
        end = None
    starts = context.instant(start, consultation.scheduled_start_date, start_at)
    ends = context.instant(end, consultation.scheduled_end_date, end_at)
    resource = patient.resource(
        "Appointment",
        "consultation",
        (consultation.id,),
        extension=consultation_source_data(consultation, context),
        identifier=listed(consultation.id and context.identifier("consultation", consultation.id)),
        status=status,
        serviceType=listed(service_type(consultation.speciality, context, build)),
        appointmentType=vendor_concept(CHANNEL, consultation.channel, f"{CONSULTATION}/channel", context, flags),
        start=starts.text,
        _start=starts.companion,
        end=ends.text,
        _end=ends.companion,
        created=created and created.text,
        _created=created and created.companion,
        participant=listed(
            element(actor=patient.subject, status="accepted"),
            element(actor=patient.professional, status="accepted") if patient.professional else None,
        ),
    )
    return last_writer(resource, flags)
