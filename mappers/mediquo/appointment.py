"""MediQuo's scheduled ``consultation`` → Appointment, and the events that schedule one (mapping.md §8.3)."""

from collections.abc import Callable
from dataclasses import dataclass

from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.fhir.elements import data_absent, element, listed
from fhirline.mappers.mediquo.compartment import Compartment, compartment
from fhirline.mappers.mediquo.encounter import CONSULTATION, consultation_source_data, service_type, vendor_concept
from fhirline.mappers.mediquo.payload import AppointmentEvent, AppointmentPayload, ScheduledConsultation
from fhirline.mappers.results import Element, Flag, Flags, MappingResult, NewResource, Refused
from fhirline.mappers.times import DateTime, inverted


def appointment_event(status: str) -> Callable[[AppointmentEvent, Context], MappingResult]:
    """The mapping of the events after which an appointment has ``status``."""

    def mapping(event: AppointmentEvent, context: Context) -> MappingResult:
        payload = event.payload or AppointmentPayload()
        patient = compartment(payload.patient, payload.professional, context)
        consultation = payload.consultation or ScheduledConsultation()
        if consultation.id is None:
            patient.skip(CONSULTATION)
            return patient.mapped((), (unidentified("Appointment"),))
        return patient.mapped((appointment(consultation, status, patient),))

    return mapping


def unidentified(resource_type: str) -> Refused:
    """Without the consultation's id, one consultation would overwrite another."""
    return Refused(resource_type, Flag("resource-refused", (f"{CONSULTATION}/id",)))


def appointment(consultation: ScheduledConsultation, status: str, compartment: Compartment) -> NewResource:
    context, flags = compartment.context, Flags()
    start_at, end_at = f"{CONSULTATION}/scheduled_start_date", f"{CONSULTATION}/scheduled_end_date"
    start = context.date_time(consultation.scheduled_start_date, start_at, flags)
    end = context.date_time(consultation.scheduled_end_date, end_at, flags)
    created = context.date_time(consultation.created_at, f"{CONSULTATION}/created_at", flags)
    if start and end and inverted(start, end):
        flags.add("period-inverted", end_at)
        end = None
    starts = moment(start, consultation.scheduled_start_date, start_at, context)
    ends = moment(end, consultation.scheduled_end_date, end_at, context)
    resource = compartment.resource(
        "Appointment",
        "consultation",
        (consultation.id,),
        extension=consultation_source_data(consultation, context),
        identifier=listed(consultation.id and context.identifier("consultation", consultation.id)),
        status=status,
        serviceType=listed(service_type(consultation.speciality, compartment)),
        appointmentType=vendor_concept(
            "mediquo-channel", consultation.channel, f"{CONSULTATION}/channel", context, flags
        ),
        start=starts.text,
        _start=starts.companion,
        end=ends.text,
        _end=ends.companion,
        created=created and created.text,
        _created=created and created.companion,
        participant=listed(
            element(actor=compartment.subject, status="accepted"),
            element(actor=compartment.professional, status="accepted") if compartment.professional else None,
        ),
    )
    return last_writer(resource, flags)


@dataclass(frozen=True, slots=True)
class Moment:
    """A FHIR ``instant`` and its companion, which says why there is none where there is none (§3.4, rule 4)."""

    text: str | None
    companion: Element | None


def moment(value: DateTime | None, sent: str | None, pointer: str, context: Context) -> Moment:
    """``value`` as an instant; of a date alone only what was sent."""
    if value is not None and value.order is not None:
        return Moment(value.text, value.companion)
    source = value and (value.companion or {"extension": [context.source_value(pointer, sent)]})
    return Moment(None, {"extension": [*data_absent("unknown")["extension"], *(source or {}).get("extension", ())]})
