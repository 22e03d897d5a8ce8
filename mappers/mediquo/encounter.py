"""MediQuo's ``consultation`` → Encounter (mapping.md §8.1.1), and the elements that it shares with Appointment."""

import re
from collections.abc import Sequence

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.declarations import CodeSystem
from fhirline.mappers.fhir.elements import ACT_CODE, PARTICIPATION, codeable_concept, coding, element, listed, reference
from fhirline.mappers.mediquo.declarations import CHANNEL, CONSULTATION_TYPE, SPECIALITY
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import Consultation, ScheduledConsultation, Speciality, VideoCall
from fhirline.mappers.results import Element, Flags, NewResource
from fhirline.mappers.times import period

CONSULTATION = "/payload/consultation"
SPECIALITY_TABLE = "mediquo-speciality"

VIRTUAL = coding(ACT_CODE, "VR", "virtual")
PRIMARY_PERFORMER = coding(PARTICIPATION, "PPRF", "primary performer")

_CODE = re.compile(r"[^\s]+( [^\s]+)*")


def finished_encounter(
    consultation: Consultation, appointment: str | None, patient: PatientEvent, build: MappingBuilder
) -> NewResource:
    """Make the Encounter of a consultation that took place. ``appointment`` is the reference of the one it fulfils."""
    context, flags = patient.context, Flags()
    start = context.date_time(consultation.start_date, f"{CONSULTATION}/start_date", flags)
    end = context.date_time(consultation.end_date, f"{CONSULTATION}/end_date", flags)
    return _encounter(
        consultation,
        patient,
        build,
        flags,
        extension=consultation_source_data(consultation, context),
        status="finished",
        type=listed(
            vendor_concept(CONSULTATION_TYPE, consultation.type, f"{CONSULTATION}/type", context, flags),
            vendor_concept(CHANNEL, consultation.channel, f"{CONSULTATION}/channel", context, flags),
        ),
        appointment=listed(reference(appointment)),
        period=period(start, end, flags, f"{CONSULTATION}/end_date"),
    )


def planned_encounter(call: VideoCall, patient: PatientEvent, build: MappingBuilder) -> NewResource:
    """Make the Encounter of a video call that has not begun (mapping.md §8.3). The finished one replaces it."""
    return _encounter(call, patient, build, Flags(), status="planned")


def unmade_encounter(consultation_id: str | None, context: Context) -> Element | None:
    """Refer to a consultation's Encounter by its identifier, from an event that makes none; None without an id."""
    if consultation_id is None:
        return None
    return element(type="Encounter", identifier=context.identifier("consultation", consultation_id))


def _encounter(
    consultation: Consultation | VideoCall,
    patient: PatientEvent,
    build: MappingBuilder,
    flags: Flags,
    *,
    status: str,
    extension: Sequence[Element] = (),
    type: list[Element] | None = None,
    appointment: list[Element] | None = None,
    period: Element | None = None,
) -> NewResource:
    context = patient.context
    performer = element(type=[codeable_concept(PRIMARY_PERFORMER)], individual=patient.professional)
    resource = patient.resource(
        "Encounter",
        "consultation",
        (consultation.id,),
        extension=extension,
        identifier=listed(consultation.id and context.identifier("consultation", consultation.id)),
        status=status,
        class_=VIRTUAL,
        type=type,
        serviceType=service_type(consultation.speciality, context, build),
        subject=patient.subject,
        participant=listed(performer if patient.professional else None),
        appointment=appointment,
        period=period,
        serviceProvider=reference(context.organization),
    )
    return last_writer(resource, flags)


def service_type(speciality: Speciality | None, context: Context, build: MappingBuilder) -> Element | None:
    """Make the CodeableConcept of a speciality: the vendor's number, the curated codes if any, the vendor's words."""
    if speciality is None:
        return None
    number = speciality.id if speciality.id and _CODE.fullmatch(speciality.id) else None
    if number is None:
        build.omit(f"{CONSULTATION}/speciality/id")
    row = context.terminology.row(SPECIALITY_TABLE, speciality.name)
    if speciality.name is not None and row is None:
        build.count_unmapped(SPECIALITY_TABLE, f"{CONSULTATION}/speciality/name")
    return codeable_concept(
        context.coding(SPECIALITY, number) if number else None,
        *context.curated(row),
        text=speciality.name,
    )


def vendor_concept(
    system: CodeSystem, words: str | None, pointer: str, context: Context, flags: Flags
) -> Element | None:
    """Make a CodeableConcept of a vendor's words: coded where the table of the system has a row, and the words."""
    row = context.look_up(system.table or system.name, words, pointer, flags)
    own = context.coding(system, str(row.means["code"])) if row else None
    return codeable_concept(own, *context.curated(row), text=words)


def consultation_source_data(consultation: ScheduledConsultation, context: Context) -> list[Element]:
    """Make ``source-data`` of the values for which FHIR has no element (mapping.md §8.3)."""
    sent = {
        "service_type": consultation.service_type,
        "previous_scheduled_start_date": consultation.previous_scheduled_start_date,
        "previous_scheduled_end_date": consultation.previous_scheduled_end_date,
    }
    return [context.source_data(f"{CONSULTATION}/{name}", value) for name, value in sent.items() if value]
