"""A score that an Azodha event contains → Observation (mapping.md §11.7)."""

from dataclasses import dataclass

from fhirline.mappers.azodha.declarations import OBSERVABLE
from fhirline.mappers.azodha.event import time_with_zone
from fhirline.mappers.azodha.payload import Inference, Score
from fhirline.mappers.azodha.reader import Reader
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import last_writer, one_event
from fhirline.mappers.fhir.elements import UCUM, codeable_concept, coding, decimal, listed, reference
from fhirline.mappers.pipeline import common_resources
from fhirline.mappers.results import Element, NewResource, Resource
from fhirline.mappers.times import DateTime

OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
COMPUTED = ("computedAt", "calculatedAt")
NAMES = tuple(concept.code for concept in OBSERVABLE.concepts)


@dataclass(frozen=True, slots=True)
class ScoreObservation:
    """An Observation, and the JSON Pointers of the fields that it is made of."""

    observation: NewResource
    fields: tuple[str, ...]


def scores(reader: Reader, build: MappingBuilder) -> list[ScoreObservation]:
    """Make an Observation per score. It has the AI label only where a model is named that computed it."""
    found = reader.find(Score, reader.places())
    request = reader.find(Inference, reader.places()).model
    computed_name, computed = time_with_zone(found, COMPUTED, reader, build) or (None, None)
    made = []
    for name in NAMES:
        value = decimal(getattr(found.model, name))
        if value is not None:
            resource = _observation(name, value, computed, request, reader)
            new = last_writer if request.assessmentResponseId else one_event
            security = (common_resources.DEVICE_ASSERTED,)
            observation = new(resource, reader.flags(), ai=bool(request.model), security=security)
            fields = (found.at[name], *([found.at[computed_name]] if computed_name else []))
            made.append(ScoreObservation(observation, fields))
    return made


def _observation(
    name: str, value: int | float, computed: DateTime | None, request: Inference, reader: Reader
) -> Resource:
    """Make the Observation of one score. Without a time of computation, it is ``issued`` at the event time."""
    context, response_id = reader.context, request.assessmentResponseId
    return context.resource(
        "Observation",
        "score",
        reader.key(name, response_id or context.event_key),
        status="final",
        category=listed(codeable_concept(coding(OBSERVATION_CATEGORY, "survey", "Survey"))),
        code=codeable_concept(context.coding(OBSERVABLE, name), text=name),
        subject=reader.subject if reader.patient_id else None,
        effectiveDateTime=computed and computed.text,
        _effectiveDateTime=computed and computed.companion,
        issued=None if computed else context.time.instant.text,
        valueQuantity={"value": value, "unit": "score", "system": UCUM, "code": "{score}"},
        device=reference(context.reference("Device", "engine", request.model)) if request.model else None,
        derivedFrom=[_response(response_id, reader)] if response_id else None,
    )


def _response(response_id: str, reader: Reader) -> Element:
    """Refer to the QuestionnaireResponse by its identifier: the event makes none."""
    identifier = reader.context.identifier("assessment-response", response_id)
    return {"type": "QuestionnaireResponse", "identifier": identifier}
