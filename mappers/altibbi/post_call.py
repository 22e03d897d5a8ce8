"""Altibbi's answers after the call → QuestionnaireResponse, the data of record (mapping.md §9.2.8)."""

from collections.abc import Mapping

from fhirline.mappers.altibbi.children import Child
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.items import identified, readable
from fhirline.mappers.altibbi.payload import Data
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.fhir.elements import element
from fhirline.mappers.results import Element

UNNAMED = "-"
"""``linkId`` of answers that came without a question."""

Answers = Mapping[str, list[str]]
"""Question → its answers, both as sent and in order. A question without an answer has an empty list."""


def post_call_answers(data: Data, consultation: Consultation, build: MappingBuilder) -> Answers:
    """Read the questions and answers, each question once."""
    answers: dict[str, list[str]] = {}
    items = readable(consultation.context, "/data/postCallAnswer", data.postCallAnswer, build)
    for item in identified(items, "question", "answer", build=build):
        given = answers.setdefault(item.model.question or UNNAMED, [])
        if item.model.answer:
            given.append(item.model.answer)
    return answers


def questionnaire_response(answers: Answers, consultation: Consultation) -> list[Child]:
    """Make the QuestionnaireResponse; none without questions. No Questionnaire is published that it could name."""
    if not answers:
        return []
    resource = consultation.resource(
        "QuestionnaireResponse",
        "post-call",
        (),
        status="completed",
        subject=consultation.subject,
        encounter=consultation.encounter,
        authored=consultation.time,
        _authored=consultation.time_basis,
        item=[_item(question, given) for question, given in answers.items()],
    )
    return [Child(resource)]


def _item(question: str, given: list[str]) -> Element | None:
    return element(
        linkId=question,
        text=question if question != UNNAMED else None,
        answer=[{"valueString": answer} for answer in given],
    )
