"""MediQuo ``patient_report_sent`` → Composition, Communication (mapping.md §8.2)."""

from decimal import Decimal

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.fhir.elements import codeable_concept, coding, element, listed, reference
from fhirline.mappers.mediquo.composition import Note, composition_reference, documents, fingerprint
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import ReportSent, ReportSentPayload
from fhirline.mappers.results import Flags, MappingResult, NewResource
from fhirline.mappers.times import TIMESTAMP_INVALID

NOTIFICATION = coding("http://terminology.hl7.org/CodeSystem/communication-category", "notification", "Notification")


def report_sent(event: ReportSent, context: Context) -> MappingResult:
    """Map a report that was sent to its patient (mapping.md §8.2)."""
    payload = event.payload or ReportSentPayload()
    patient = PatientEvent.of(payload.patient, None, context)
    build = MappingBuilder()
    build.add(*patient.people())
    sent = Note(
        type=payload.type,
        content=payload.content or {},
        pointer="/payload",
        kind="sent",
        key=(_sent_at(event, context), fingerprint(context.raw("/payload/content"))),
    )
    made = documents(sent, patient, Flags())
    build.add(*made)
    if payload.content is None:
        build.omit("/payload/content")
    if not made:
        build.flag("report-empty", "/payload/content")
        build.omit("/payload/type")
    build.add(communication(sent, bool(made), patient))
    return patient.result(build)


def _sent_at(event: ReportSent, context: Context) -> Decimal | None:
    """Return the key part of the event's time: UNIX seconds, also of a date-time in text; None without a time."""
    if event.occurred_on is not None or TIMESTAMP_INVALID in context.time.flags:
        return event.occurred_on
    seconds, fraction = context.time.instant.order
    return Decimal(f"{seconds}.{fraction or 0}")


def communication(sent: Note, with_report: bool, patient: PatientEvent) -> NewResource:
    """Make the Communication: that the report was sent. Its sender is not named.

    Last writer, as the Composition is: two events of one time and content have one key, and may differ elsewhere.
    """
    context = patient.context
    report = reference(composition_reference(sent, patient)) if with_report else None
    resource = patient.resource(
        "Communication",
        sent.kind,
        sent.key,
        status="completed",
        category=listed(codeable_concept(NOTIFICATION)),
        subject=patient.subject,
        sent=context.time.instant.text,
        recipient=listed(patient.subject),
        payload=listed(element(contentReference=report)),
    )
    return last_writer(resource)
