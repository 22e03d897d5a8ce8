"""The answers of an Azodha assessment → items: recognised questions, and leaves of any shape (mapping.md §11.3)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.answers import answer, label, leaf_items, secret_leaf
from fhirline.mappers.azodha.payload import Question, Response
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import element
from fhirline.mappers.json_pointer import escape, is_list, items_of, leaves_of
from fhirline.mappers.results import Element

MAPPED, IGNORED = "mapped §11.3", "ignored §11.3"
QUESTION_IDS = ("linkId", "questionId", "id")
QUESTION_TEXTS = ("question", "questionText", "label", "text")
ANSWERS = ("answer", "answers", "value", "response")
_LISTS = ("answers", "responses", "items", "item")


@dataclass(frozen=True, slots=True)
class _Labels:
    """The questionnaire's label of each ``linkId``, and the pointers of both."""

    texts: Mapping[str, str]
    at: Mapping[str, tuple[str, ...]]


def items(
    answers_at: str | None, questionnaire_at: str | None, context: Context, build: MappingBuilder
) -> list[Element]:
    """Make the items of the answers. The questionnaire gives labels only; its other values are ignored by rule."""
    labels = _labels(questionnaire_at, context, build)
    if answers_at is None:
        return []
    build.hide_keys(answers_at)
    made: list[Element] = []
    for pointer, value in _parts(context.raw(answers_at), answers_at):
        made.extend(_pair(pointer, value, labels, build) or _keyed(pointer, value, labels, build))
    return made


def _labels(questionnaire_at: str | None, context: Context, build: MappingBuilder) -> _Labels:
    """Read the labels of the questionnaire; the first of a ``linkId`` counts."""
    texts: dict[str, str] = {}
    at: dict[str, tuple[str, ...]] = {}
    if questionnaire_at is not None:
        whole = context.raw(questionnaire_at)
        build.hide_keys(questionnaire_at)
        build.claim(IGNORED, *(pointer for pointer, _ in leaves_of(whole, questionnaire_at)))
        for pointer, value in _objects(whole, questionnaire_at):
            question = Question.model_validate(value)
            if question.linkId and question.label and question.linkId not in texts:
                texts[question.linkId] = question.label
                at[question.linkId] = (f"{pointer}/linkId", f"{pointer}/label")
    return _Labels(texts, at)


def _objects(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Iterate over all objects at or below a value, outermost first, with their pointers."""
    if isinstance(value, dict):
        yield pointer, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _objects(item, f"{pointer}/{escape(str(key))}")


def _parts(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Iterate over the values that may be one answer each, with their pointers.

    These are the entries of a list, or the members of an object. A list of objects under a usual name is opened.
    """
    if is_list(value):
        yield from items_of(value, pointer)
    elif isinstance(value, dict):
        for key, item in value.items():
            inner = f"{pointer}/{escape(key)}"
            entries = items_of(item, inner)
            if key in _LISTS and is_list(item) and all(isinstance(entry, dict) for _, entry in entries):
                yield from entries
            else:
                yield inner, item
    else:
        yield pointer, value


def _pair(pointer: str, value: Any, labels: _Labels, build: MappingBuilder) -> list[Element]:
    """Make the item of an object with the id of a question and an answer, which may be empty. Empty if it is none."""
    if not isinstance(value, dict):
        return []
    sent = Response.model_validate(value)
    id_name = next((name for name in QUESTION_IDS if getattr(sent, name)), None)
    answer_names = [name for name in ANSWERS if name in value]
    if id_name is None or not answer_names:
        return []
    answer_name = next((name for name in answer_names if value[name] not in (None, "", [], {})), answer_names[0])
    text_name = next((name for name in QUESTION_TEXTS if getattr(sent, name)), None)
    text = getattr(sent, text_name) if text_name else None
    build.claim(MAPPED, f"{pointer}/{id_name}", f"{pointer}/{text_name}" if text_name else None)
    return _item(getattr(sent, id_name), f"{pointer}/{answer_name}", value[answer_name], labels, text, build)


def _keyed(pointer: str, value: Any, labels: _Labels, build: MappingBuilder) -> list[Element]:
    """Make the item of a value whose key is a question of the questionnaire; of any other value an item per leaf."""
    key = label(pointer)
    if key is not None and key in labels.texts:
        return _item(key, pointer, value, labels, None, build)
    return _leaf_items(pointer, value, build)


def _item(
    link_id: str, pointer: str, value: Any, labels: _Labels, text: str | None, build: MappingBuilder
) -> list[Element]:
    """Make the item of a question: answers, or an item per leaf where they are no plain values (``qrs-1``)."""
    if not text and link_id in labels.texts:
        text = labels.texts[link_id]
        build.claim(MAPPED, *labels.at[link_id])
    if any(isinstance(given, dict | list) for _, given in items_of(value, pointer)):
        content = {"item": _leaf_items(pointer, value, build)}
    else:
        content = {"answer": _answers(pointer, value, build)}
    made = element(linkId=link_id, text=text, **content)
    return [made] if made else []


def _leaf_items(pointer: str, value: Any, build: MappingBuilder) -> list[Element]:
    leaves = leaf_items(value, pointer)
    build.claim(MAPPED, *(leaf.pointer for leaf in leaves))
    return [leaf.item for leaf in leaves]


def _answers(pointer: str, value: Any, build: MappingBuilder) -> list[Element]:
    answers = []
    for place, leaf in items_of(value, pointer):
        if (given := answer(leaf)) and not secret_leaf("", leaf):
            answers.append(given)
            build.claim(MAPPED, place)
    return answers
