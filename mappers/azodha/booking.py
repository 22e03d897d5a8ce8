"""Azodha's three events about appointments (mapping.md §11.2, rows 1, 5 and 8)."""

from fhirline.mappers.azodha.appointment import Appointment, appointment
from fhirline.mappers.azodha.event import start
from fhirline.mappers.azodha.payload import EventMetadata
from fhirline.mappers.azodha.people import add_people
from fhirline.mappers.azodha.reader import Reader
from fhirline.mappers.azodha.task import care_task
from fhirline.mappers.context import Context, one_event
from fhirline.mappers.fhir.elements import codeable_concept, coding, element, listed
from fhirline.mappers.payload import Payload
from fhirline.mappers.results import MappingResult, NewResource
from fhirline.mappers.routing import text_at

COMMUNICATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/communication-category"
MAPPED = "mapped §11.4"


def book_appointment(_: Payload, context: Context) -> MappingResult:
    """Map a new booking → Appointment, Patient, Practitioners."""
    reader, build = start(context)
    providers = add_people(reader, build)
    if reader.patient_id is None:
        build.refuse("Appointment", "patient-missing")
    elif booked := appointment(reader, build, providers):
        build.add(booked.fold)
    else:
        build.refuse("Appointment", "resource-refused")
    return build.result()


def appointment_activity(_: Payload, context: Context) -> MappingResult:
    """Map an appointment that was created or updated, with its log → Appointment, Task, Patient, Practitioners."""
    reader, build = start(context)
    providers = add_people(reader, build)
    if reader.patient_id is None:
        build.refuse("Appointment", "patient-missing")
        return build.result()
    changed = appointment(reader, build, providers)
    build.add(changed.fold if changed else None, care_task(changed, reader, build))
    return build.result()


def notification(_: Payload, context: Context) -> MappingResult:
    """Map a notification → Communication; Appointment, where a patient joined the waiting room."""
    reader, build = start(context)
    providers = add_people(reader, build)
    if reader.patient_id is None:
        build.refuse("Communication", "patient-missing")
        return build.result()
    metadata = reader.find(EventMetadata, reader.places())
    subtype = metadata.model.eventSubType
    waiting_room = _is_waiting_room(context, subtype)
    concerned = appointment(reader, build, providers, waiting_room, guarded=True)
    build.add(concerned.fold if concerned else None, communication(concerned, subtype, waiting_room, reader))
    build.claim(MAPPED, metadata.at.get("eventSubType"), concerned.id_at if concerned else None)
    return build.result()


def communication(about: Appointment | None, subtype: str | None, waiting_room: bool, reader: Reader) -> NewResource:
    """Make the Communication. Its sentence contains no data of a person."""
    context = reader.context
    sentence = "The patient joined the virtual waiting room." if waiting_room else "A notification was sent."
    resource = context.resource(
        "Communication",
        "notification",
        (context.event_key,),
        status="completed",
        category=listed(codeable_concept(coding(COMMUNICATION_CATEGORY, "notification", "Notification"))),
        subject=reader.subject,
        topic=codeable_concept(text=subtype),
        about=listed(about.reference if about else None),
        sent=context.time.instant.text,
        payload=listed(element(contentString=sentence)),
    )
    return one_event(resource, reader.flags())


def _is_waiting_room(context: Context, subtype: str | None) -> bool:
    """Tell whether a patient joined the waiting room (mapping.md §11.4).

    A configured sub-type tells it or, where no sub-type is sent, the shape that the guide describes.
    """
    if subtype is not None:
        return subtype in context.settings.waiting_room_subtypes
    body = context.envelope.body
    return text_at(body, "/data/patientName") is not None and isinstance(context.raw("/data/appointment"), dict)
