"""Describe a resource in a line: its subject in its own words, its status, and its time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

_CODED = (
    "code",
    "medicationCodeableConcept",
    "type",
    "category",
    "serviceType",
    "reasonCode",
    "class",
    "medicationReference",
)
_TIMES = (
    "period",
    "effectivePeriod",
    "effectiveDateTime",
    "onsetDateTime",
    "authoredOn",
    "start",
    "sent",
    "recorded",
    "recordedDate",
    "authored",
    "created",
    "date",
    "occurrenceDateTime",
    "issued",
    "birthDate",
)


class Current(NamedTuple):
    """A resource as it is on its topic. The texts are empty where it has none, or was not read."""

    reference: str
    text: str
    status: str
    period: str


def current_of(reference: str, resource: dict[str, Any]) -> Current:
    """Say in a line what a resource is about, and when it was. ``resource``: empty where it is not known."""
    return Current(reference, _text(resource), str(resource.get("status") or ""), _period(resource))


def _text(resource: dict[str, Any]) -> str:
    """Return what a resource is about, in its own words.

    >>> _text({"code": {"coding": [{"code": "R05", "display": "Cough"}]}})
    'Cough'
    """
    named = (_words(each) for each in (*_listed(resource.get("name")), *_listed(resource.get("title"))))
    coded = (_words(each) for name in _CODED for each in _listed(resource.get(name)))
    return next((text for text in (*named, *coded) if text), "")


def _words(value: Any) -> str:
    """Return the text of a CodeableConcept, a Coding, a HumanName or a Reference."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    if text := value.get("text") or value.get("display"):
        return str(text)
    for coding in value.get("coding") or ():
        if text := coding.get("display") or coding.get("code"):
            return str(text)
    return str(value.get("code") or "") or " ".join((*value.get("given", ()), value.get("family", ""))).strip()


def _period(resource: dict[str, Any]) -> str:
    """Return the time of a resource, or the two ends of its period.

    >>> _period({"period": {"start": "2024-06-01", "end": "2024-06-02"}}), _period({"authoredOn": "2024-06-01"})
    ('2024-06-01 to 2024-06-02', '2024-06-01')
    """
    for name in _TIMES:
        value = resource.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, dict):
            return " to ".join(value[side] for side in ("start", "end") if side in value)
    return ""


def _listed(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else () if value is None else (value,)
