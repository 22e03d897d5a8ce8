"""Altibbi: status changes and recommendations of consultations (mapping.md §9)."""

from fhirline.mappers.altibbi.declarations import IDENTIFIERS
from fhirline.mappers.altibbi.payload import Recommendation, Sender, StatusUpdate
from fhirline.mappers.altibbi.recommendation import recommendation
from fhirline.mappers.altibbi.status_update import status_update
from fhirline.mappers.pipeline.envelope import Body
from fhirline.mappers.registry import EventMapping, VendorMapping
from fhirline.mappers.routing import time_at


def _event_type(body: Body, _: str | None) -> str | None:
    """Read ``type`` (mapping.md §2)."""
    sent = body.get("type")
    return sent if isinstance(sent, str) else None


def _patient_key(body: Body) -> tuple[str, ...] | None:
    """Read ``user_id`` (mapping.md §2)."""
    user = Sender.model_validate(body).user_id
    return (user,) if user else None


VENDOR = VendorMapping(
    name="altibbi",
    event_type=_event_type,
    patient_key=_patient_key,
    event_time=time_at("/datetime"),
    events={
        "status_update": EventMapping(StatusUpdate, status_update),
        "recommendation_data": EventMapping(Recommendation, recommendation),
    },
    identifiers=IDENTIFIERS,
)
