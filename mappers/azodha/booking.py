"""Azodha's three events about appointments (mapping.md §11.2, rows 1, 5 and 8)."""

from fhirline.mappers.azodha.appointment import Appointment, appointment
from fhirline.mappers.azodha.payload import EventMetadata
from fhirline.mappers.azodha.people import Professional, patient, patient_missing, professionals
from fhirline.mappers.azodha.reader import Reader, text_at
from fhirline.mappers.azodha.task import care_task
from fhirline.mappers.context import Context, one_event
from fhirline.mappers.fhir.elements import codeable_concept, coding, element, listed, reference
from fhirline.mappers.payload import Payload
from fhirline.mappers.results import Flag, Fold, MappingResult, NewResource, Refused

COMMUNICATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/communication-category"
PARAGRAPH = "§11.4"


def book_appointment(_: Payload, context: Context) -> MappingResult:
    """A new booking → Appointment, Patient, Practitioners."""
    reader = Reader(context)
    person, providers = patient(reader), professionals(reader)
    if person is None:
        return reader.result(_practitioners(providers), patient_missing("Appointment"))
    booked = appointment(reader, providers)
    return reader.result(*_people_and(person, providers, booked, required=True))


def appointment_activity(_: Payload, context: Context) -> MappingResult:
    """An appointment was created or updated, and a log of it made → Appointment, Task, Patient, Practitioners."""
    reader = Reader(context)
    person, providers = patient(reader), professionals(reader)
    if person is None:
        return reader.result(_practitioners(providers), patient_missing("Appointment"))
    changed = appointment(reader, providers)
    made, refused = _people_and(person, providers, changed)
    if task := care_task(reader, changed):
        made.append(task)
    return reader.result(made, refused)


def notification(_: Payload, context: Context) -> MappingResult:
    """Something was notified; that a patient joined the waiting room is also said of the Appointment."""
    reader = Reader(context)
    person, providers = patient(reader), professionals(reader)
    if person is None:
        return reader.result(_practitioners(providers), patient_missing("Communication"))
    subtype, subtype_at = _subtype(reader)
    waiting_room = _is_waiting_room(context, subtype)
    concerned = appointment(reader, providers, waiting_room, guarded=True)
    made, refused = _people_and(person, providers, concerned)
    made.append(_communication(reader, concerned, subtype, waiting_room))
    reader.claim(f"mapped {PARAGRAPH}", subtype_at, concerned.id_at if concerned else None)
    return reader.result(made, refused)


def _people_and(
    person: Fold, providers: list[Professional], about: Appointment | None, required: bool = False
) -> tuple[list[NewResource | Fold], list[Refused]]:
    made: list[NewResource | Fold] = [*_practitioners(providers), person]
    if about and about.fold:
        made.append(about.fold)
    unnamed = [Refused("Appointment", Flag("resource-refused"))] if required and about is None else []
    return made, unnamed


def _practitioners(providers: list[Professional]) -> list[NewResource | Fold]:
    return [each.made for each in providers if each.made]


def _communication(reader: Reader, about: Appointment | None, subtype: str | None, waiting_room: bool) -> NewResource:
    """The notification itself; its sentence holds nothing that identifies or reaches anybody."""
    context = reader.context
    sentence = "The patient joined the virtual waiting room." if waiting_room else "A notification was sent."
    return one_event(
        context.resource(
            "Communication",
            "notification",
            (context.event_key,),
            status="completed",
            category=listed(codeable_concept(coding(COMMUNICATION_CATEGORY, "notification", "Notification"))),
            subject=reference(reader.patient),
            topic=codeable_concept(text=subtype),
            about=listed(about.reference if about else None),
            sent=context.time.instant.text,
            payload=listed(element(contentString=sentence)),
        ),
        reader.flags(),
    )


def _subtype(reader: Reader) -> tuple[str | None, str | None]:
    found = reader.find(EventMetadata, reader.places())
    return found.model.eventSubType, found.at.get("eventSubType")


def _is_waiting_room(context: Context, subtype: str | None) -> bool:
    """A configured sub-type; or none at all, and the guide's own description (mapping.md §11.4)."""
    if subtype is not None:
        return subtype in context.settings.waiting_room_subtypes
    body = context.envelope.body
    return text_at(body, "/data/patientName") is not None and isinstance(context.raw("/data/appointment"), dict)
