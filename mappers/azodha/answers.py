"""The answers of an Azodha assessment as items (mapping.md §11.3): recognised questions, and leaves of any shape."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fhirline.mappers.answers import answer, label, leaf_items, secret_leaf
from fhirline.mappers.azodha.payload import Question, Response
from fhirline.mappers.azodha.reader import Reader
from fhirline.mappers.fhir.elements import element
from fhirline.mappers.json_pointer import escape, leaves_of
from fhirline.mappers.results import Element

PARAGRAPH = "§11.3"
QUESTION_IDS = ("linkId", "questionId", "id")
QUESTION_TEXTS = ("question", "questionText", "label", "text")
ANSWERS = ("answer", "answers", "value", "response")
_LISTS = ("answers", "responses", "items", "item")


@dataclass(frozen=True, slots=True)
class _Labels:
    """The questionnaire's label of each ``linkId``, and the pointers of both."""

    texts: Mapping[str, str]
    at: Mapping[str, tuple[str, ...]]


def items(reader: Reader, answers_at: str | None, questionnaire_at: str | None) -> list[Element]:
    """All items; what was read of the questionnaire but its labels is ignored by rule."""
    labels = _labels(reader, questionnaire_at)
    if answers_at is None:
        return []
    reader.keyed.append(answers_at)
    made: list[Element] = []
    for pointer, value in _parts(reader.context.raw(answers_at), answers_at):
        made.extend(_pair(reader, pointer, value, labels) or _keyed(reader, pointer, value, labels))
    return made


def _labels(reader: Reader, questionnaire_at: str | None) -> _Labels:
    texts: dict[str, str] = {}
    at: dict[str, tuple[str, ...]] = {}
    if questionnaire_at is not None:
        whole = reader.context.raw(questionnaire_at)
        reader.claim("ignored §11.3", *(place for place, _ in leaves_of(whole, questionnaire_at)))
        for pointer, value in _objects(whole, questionnaire_at):
            question = Question.model_validate(value)
            if question.linkId and question.label and question.linkId not in texts:
                texts[question.linkId] = question.label
                at[question.linkId] = (f"{pointer}/linkId", f"{pointer}/label")
    return _Labels(texts, at)


def _objects(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Every object at or below a value, outermost first."""
    if isinstance(value, dict):
        yield pointer, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _objects(item, f"{pointer}/{escape(str(key))}")


def _parts(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """What may be one answer each: a list's entries, an object's members; a list below a usual name is opened."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield f"{pointer}/{position}", item
    elif isinstance(value, dict):
        for key, item in value.items():
            place = f"{pointer}/{escape(key)}"
            if key in _LISTS and isinstance(item, list) and all(isinstance(each, dict) for each in item):
                yield from _parts(item, place)
            else:
                yield place, item
    else:
        yield pointer, value


def _pair(reader: Reader, pointer: str, value: Any, labels: _Labels) -> list[Element]:
    """An object that holds a question's id and an answer (maybe an empty one); no item where it is something else."""
    if not isinstance(value, dict):
        return []
    sent = Response.model_validate(value)
    id_name = next((name for name in QUESTION_IDS if getattr(sent, name)), None)
    said = [name for name in ANSWERS if name in value]
    if id_name is None or not said:
        return []
    answer_name = next((name for name in said if value[name] not in (None, "", [], {})), said[0])
    link_id = getattr(sent, id_name)
    text_name = next((name for name in QUESTION_TEXTS if getattr(sent, name)), None)
    text = getattr(sent, text_name) if text_name else None
    reader.claim(f"mapped {PARAGRAPH}", f"{pointer}/{id_name}", f"{pointer}/{text_name}" if text_name else None)
    return _item(reader, link_id, f"{pointer}/{answer_name}", value[answer_name], labels, text)


def _keyed(reader: Reader, pointer: str, value: Any, labels: _Labels) -> list[Element]:
    """A value whose key is a question of the questionnaire; else one item per leaf."""
    key = label(pointer)
    if key is not None and key in labels.texts:
        return _item(reader, key, pointer, value, labels, None)
    found = leaf_items(value, pointer)
    reader.claim(f"mapped {PARAGRAPH}", *(each.pointer for each in found))
    return [each.item for each in found]


def _item(reader: Reader, link_id: str, pointer: str, value: Any, labels: _Labels, text: str | None) -> list[Element]:
    """One question: its answers, or an item per leaf where they are no plain values (qrs-1: never both)."""
    labelled = not text and link_id in labels.texts
    text = labels.texts[link_id] if labelled else text
    values = value if isinstance(value, list) else [value]
    if any(isinstance(each, dict | list) for each in values):
        nested = leaf_items(value, pointer)
        reader.claim(f"mapped {PARAGRAPH}", *(each.pointer for each in nested))
        content = {"item": [each.item for each in nested]}
    else:
        content = {"answer": _answers(reader, value, pointer)}
    if labelled:
        reader.claim(f"mapped {PARAGRAPH}", *labels.at[link_id])
    made = element(linkId=link_id, text=text, **content)
    return [made] if made else []


def _answers(reader: Reader, value: Any, pointer: str) -> list[Element]:
    answers = []
    for place, each in leaves_of(value, pointer):
        if (said := answer(each)) and not secret_leaf("", each):
            answers.append(said)
            reader.claim(f"mapped {PARAGRAPH}", place)
    return answers
