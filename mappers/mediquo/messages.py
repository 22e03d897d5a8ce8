"""MediQuo ``patient_message_received`` and ``_sent`` → Communication (mapping.md §8.3).

The vendor's guide and its sample disagree on the name, so on the direction: neither sender nor recipient is stated.
"""

from fhirline.mappers.context import Context, one_event
from fhirline.mappers.mediquo.compartment import compartment
from fhirline.mappers.mediquo.payload import MessageEvent, MessagePayload
from fhirline.mappers.results import MappingResult


def message(event: MessageEvent, context: Context) -> MappingResult:
    payload = event.payload or MessagePayload()
    patient = compartment(payload.patient, payload.professional, context)
    communication = patient.resource(
        "Communication",
        "message",
        (context.event_key,),
        status="completed",
        subject=patient.subject,
        sent=context.time.instant.text,
    )
    return patient.mapped([one_event(communication)])
