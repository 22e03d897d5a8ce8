"""MediQuo: consultations, reports, prescriptions, history and calendars (mapping.md §8), in both editions."""

from fhirline.mappers.mediquo.appointment import appointment_event
from fhirline.mappers.mediquo.calendar import block
from fhirline.mappers.mediquo.consultation_finished import consultation_finished
from fhirline.mappers.mediquo.declarations import CODE_SYSTEMS, IDENTIFIERS
from fhirline.mappers.mediquo.messages import message
from fhirline.mappers.mediquo.payload import (
    AppointmentEvent,
    BlockEvent,
    ConsultationFinished,
    MessageEvent,
    MessagePayload,
    ReportSent,
    VideoCallAssigned,
)
from fhirline.mappers.mediquo.professional import professional_key
from fhirline.mappers.mediquo.report_sent import report_sent
from fhirline.mappers.mediquo.video_call import video_call_assigned
from fhirline.mappers.pipeline.envelope import Body
from fhirline.mappers.registry import EventMapping, VendorMapping
from fhirline.mappers.routing import time_at


def _event_type(body: Body, _: str | None) -> str | None:
    """Read ``type`` (mapping.md §2)."""
    sent = body.get("type")
    return sent if isinstance(sent, str) else None


def _patient_key(body: Body) -> tuple[str, ...] | None:
    """Read the patient's code; a calendar event has none, and is keyed by its professional (mapping.md §2)."""
    payload = MessageEvent.model_validate(body).payload or MessagePayload()
    if payload.patient and payload.patient.code:
        return (payload.patient.code,)
    professional = professional_key(payload.professional)
    return ("professional", professional) if professional else None


_BOOKED = EventMapping(AppointmentEvent, appointment_event("booked"))
_MESSAGE = EventMapping(MessageEvent, message)
_BLOCKED = EventMapping(BlockEvent, block("busy-unavailable"))

VENDOR = VendorMapping(
    name="mediquo",
    event_type=_event_type,
    patient_key=_patient_key,
    event_time=time_at("/occurred_on"),
    events={
        "patient_consultation_finished": EventMapping(ConsultationFinished, consultation_finished),
        "patient_report_sent": EventMapping(ReportSent, report_sent),
        "patient_consultation_created": _BOOKED,
        "patient_consultation_rescheduled": _BOOKED,
        "patient_consultation_cancelled": EventMapping(AppointmentEvent, appointment_event("cancelled")),
        "patient_consultation_no_show": EventMapping(AppointmentEvent, appointment_event("noshow")),
        "patient_message_received": _MESSAGE,
        "patient_message_sent": _MESSAGE,
        "patient_immediate_video_call_assigned": EventMapping(VideoCallAssigned, video_call_assigned),
        "professional_block_created": _BLOCKED,
        "professional_block_updated": _BLOCKED,
        "professional_block_deleted": EventMapping(BlockEvent, block("entered-in-error")),
    },
    identifiers=IDENTIFIERS,
    code_systems=CODE_SYSTEMS,
)
