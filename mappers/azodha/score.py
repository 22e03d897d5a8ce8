"""A wellbeing score that an event carries → Observation (mapping.md §11.7)."""

from dataclasses import dataclass

from fhirline.mappers.azodha.payload import Inference, Score
from fhirline.mappers.azodha.reader import Reader
from fhirline.mappers.context import last_writer, one_event
from fhirline.mappers.fhir.elements import UCUM, codeable_concept, coding, decimal, listed, reference
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline import common_resources
from fhirline.mappers.results import NewResource

OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
COMPUTED = ("computedAt", "calculatedAt")
NAMES = ("wellbeingScore", "score")


@dataclass(frozen=True, slots=True)
class ScoreObservation:
    """An Observation, and the pointers it was made of."""

    made: NewResource
    claims: tuple[str, ...]


def scores(reader: Reader) -> list[ScoreObservation]:
    """An Observation per score; none without a patient to be of. Only a model that is named makes it an AI's."""
    context = reader.context
    found = reader.find(Score, reader.places())
    request = reader.find(Inference, reader.places())
    computed_name, computed = next(
        (
            (name, sent)
            for name in ("computedAt", "calculatedAt")
            if (sent := Instant.parse(getattr(found.model, name)))
        ),
        (None, None),
    )
    response_id, model = request.model.assessmentResponseId, request.model.model
    make = last_writer if response_id else one_event
    response = {
        "type": "QuestionnaireResponse",
        "identifier": context.identifier("assessment-response", response_id or "-"),
    }
    made = []
    for name in NAMES:
        value = decimal(getattr(found.model, name))
        if value is None:
            continue
        observation = context.resource(
            "Observation",
            "score",
            reader.key(name, response_id or context.event_key),
            status="final",
            category=listed(codeable_concept(coding(OBSERVATION_CATEGORY, "survey", "Survey"))),
            code=codeable_concept(context.coding("azodha-observable", name), text=name),
            subject=reference(reader.patient) if reader.patient_id else None,
            effectiveDateTime=computed.text if computed else None,
            issued=None if computed else context.time.instant.text,
            valueQuantity={"value": value, "unit": "score", "system": UCUM, "code": "{score}"},
            device=reference(context.reference("Device", "engine", model)) if model else None,
            derivedFrom=[response] if response_id else None,
        )
        label = {"ai": bool(model), "security": (common_resources.DEVICE_ASSERTED,)}
        claims = (found.at[name], *([found.at[computed_name]] if computed_name else []))
        made.append(ScoreObservation(make(observation, reader.flags(), **label), claims))
    return made
