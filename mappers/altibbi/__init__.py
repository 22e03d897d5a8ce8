"""Altibbi: status changes and recommendations of consultations (mapping.md §9)."""

from fhirline.mappers.altibbi.payload import Recommendation, Sender, StatusUpdate
from fhirline.mappers.altibbi.recommendation import recommendation
from fhirline.mappers.altibbi.status_update import status_update
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Body, Envelope
from fhirline.mappers.registry import EventMapping, VendorMapping
from fhirline.mappers.times import EventTime, event_time


def _event_type(body: Body, _: str | None) -> str | None:
    """Read ``type`` (mapping.md §2)."""
    sent = body.get("type")
    return sent if isinstance(sent, str) else None


def _patient_key(body: Body) -> tuple[str, ...] | None:
    """Read ``user_id`` (mapping.md §2)."""
    user = Sender.model_validate(body).user_id
    return (user,) if user else None


def _event_time(envelope: Envelope) -> EventTime:
    """Read ``datetime`` (mapping.md §3.3)."""
    return event_time(Instant.parse(envelope.body.get("datetime")), envelope.received_at, otherwise="timestamp-invalid")


VENDOR = VendorMapping(
    name="altibbi",
    event_type=_event_type,
    patient_key=_patient_key,
    event_time=_event_time,
    events={
        "status_update": EventMapping(StatusUpdate, status_update),
        "recommendation_data": EventMapping(Recommendation, recommendation),
    },
)
