"""MediQuo ``patient_message_received`` and ``_sent`` → Communication (mapping.md §8.3)."""

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, one_event
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.payload import MessageEvent, MessagePayload
from fhirline.mappers.results import MappingResult


def message(event: MessageEvent, context: Context) -> MappingResult:
    """Map a message → Communication (mapping.md §8.3).

    The vendor's guide and its sample disagree on the direction: neither sender nor recipient is stated.
    """
    payload = event.payload or MessagePayload()
    patient = PatientEvent.of(payload.patient, payload.professional, context)
    build = MappingBuilder()
    build.add(*patient.people())
    communication = patient.resource(
        "Communication",
        "message",
        (context.event_key,),
        status="completed",
        subject=patient.subject,
        sent=context.time.instant.text,
    )
    build.add(one_event(communication))
    return patient.result(build)
