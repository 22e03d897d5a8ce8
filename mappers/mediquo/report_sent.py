"""MediQuo ``patient_report_sent``: a report on its way to the patient (mapping.md §8.2)."""

from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.fhir.elements import codeable_concept, coding, element, listed, reference
from fhirline.mappers.mediquo.compartment import Compartment, compartment
from fhirline.mappers.mediquo.composition import Note, composition_reference, fingerprint, note
from fhirline.mappers.mediquo.payload import ReportSent, ReportSentPayload
from fhirline.mappers.results import Flags, MappingResult, NewResource

NOTIFICATION = coding("http://terminology.hl7.org/CodeSystem/communication-category", "notification", "Notification")


def report_sent(event: ReportSent, context: Context) -> MappingResult:
    payload = event.payload or ReportSentPayload()
    patient = compartment(payload.patient, None, context)
    sent = Note(
        type=payload.type,
        content=payload.content or {},
        pointer="/payload",
        kind="sent",
        key=(event.occurred_on, fingerprint(context.raw("/payload/content"))),
    )
    made = note(sent, patient, Flags())
    if payload.content is None:
        patient.skip("/payload/content")
    if not made:
        patient.flags.add("report-empty", "/payload/content")
        patient.skip("/payload/type")
    return patient.mapped([*made, _communication(sent, bool(made), patient)])


def _communication(sent: Note, with_report: bool, patient: Compartment) -> NewResource:
    """That the report was sent; by whom is not said.

    Last writer, as the note: the key tells events apart only by time and content, and two may differ elsewhere.
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
