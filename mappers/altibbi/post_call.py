"""Altibbi's answers after the call → QuestionnaireResponse, the data of record (mapping.md §9.2.8)."""

from collections.abc import Mapping

from fhirline.mappers.altibbi.children import Child, Unused
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.payload import Data
from fhirline.mappers.fhir.elements import element

UNNAMED = "-"
"""``linkId`` of answers that came without a question."""

Answers = Mapping[str, list[str]]
"""Question → its answers, both as sent and in order; a question without answer has none."""


def answers(data: Data, consultation: Consultation, unused: Unused) -> Answers:
    found: dict[str, list[str]] = {}
    for item in consultation.context.items("/data/postCallAnswer", data.postCallAnswer):
        if unused.unless(item, item.model.question, item.model.answer):
            given = found.setdefault(item.model.question or UNNAMED, [])
            given.extend([item.model.answer] if item.model.answer else [])
    return found


def questionnaire_response(answers: Answers, consultation: Consultation) -> list[Child]:
    """One item per distinct question; no questionnaire is published that it could name."""
    if not answers:
        return []
    return [
        Child(
            consultation.resource(
                "QuestionnaireResponse",
                "post-call",
                (),
                status="completed",
                subject=consultation.to_patient,
                encounter=consultation.to_encounter,
                authored=consultation.time,
                _authored=consultation.time_basis,
                item=[
                    element(
                        linkId=question,
                        text=question if question != UNNAMED else None,
                        answer=[{"valueString": each} for each in given],
                    )
                    for question, given in answers.items()
                ],
            )
        )
    ]
