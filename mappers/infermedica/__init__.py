"""Infermedica Intake: finished surveys (mapping.md §10)."""

from fhirline.mappers.infermedica.declarations import CODE_SYSTEMS, IDENTIFIERS
from fhirline.mappers.infermedica.payload import SurveyFinished, SurveyNames
from fhirline.mappers.infermedica.survey_finished import survey_finished
from fhirline.mappers.pipeline.envelope import Body, Envelope
from fhirline.mappers.registry import EventMapping, VendorMapping
from fhirline.mappers.times import EventTime, event_time


def _event_type(body: Body, _: str | None) -> str | None:
    """Read ``event_type`` (mapping.md §2)."""
    sent = body.get("event_type")
    return sent if isinstance(sent, str) else None


def _patient_key(body: Body) -> tuple[str, ...] | None:
    """Read the patient's id of an enriched event; a thin event names only its survey (mapping.md §2)."""
    event = SurveyNames.model_validate(body)
    if event.patient_id:
        return (event.patient_id,)
    return ("survey", event.survey.value) if event.survey else None


def _event_time(envelope: Envelope) -> EventTime:
    """Take the time of receipt: the vendor sends no time (mapping.md §3.3)."""
    return event_time(None, envelope.received_at, otherwise="no-event-time")


VENDOR = VendorMapping(
    name="infermedica",
    event_type=_event_type,
    patient_key=_patient_key,
    event_time=_event_time,
    events={"survey_finished": EventMapping(SurveyFinished, survey_finished)},
    identifiers=IDENTIFIERS,
    code_systems=CODE_SYSTEMS,
    unmapped=frozenset({"survey_created"}),
)
