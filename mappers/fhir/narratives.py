"""Narratives of whole resources, made by template of their final content alone (mapping.md §13).

In this order: what the resource is, the patient (by identifier, not by name), status, times and their basis, the
vendor's words, values that are kept only in extensions, and every data-quality flag in plain words.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhirline.config import tables
from fhirline.mappers.fhir.elements import DATA_ABSENT
from fhirline.mappers.fhir.narrative import items, narrative, paragraphs
from fhirline.mappers.fhir.narrative_rows import ABSENT, BASIS, SHOWN, TIMES, Row
from fhirline.mappers.results import Element, Resource

Patients = Mapping[str, str]
"""``Patient/<id>`` → its identifiers, as text."""


def narrated(resource: Resource, patients: Patients) -> Resource:
    """Return the resource with a narrative behind ``meta``, unless it has one already."""
    if "text" in resource:
        return resource
    writer = _Writer(resource, patients)
    blocks = [*map(paragraphs, writer.lines()), *writer.lists()]
    text = narrative("extensions" if writer.shows_extensions else "generated", *blocks)
    head = {name: resource[name] for name in ("resourceType", "id", "meta")}
    return {**head, "text": text, **{name: value for name, value in resource.items() if name not in head}}


def identifiers(resources: Iterable[Resource]) -> Patients:
    """Return the identifiers of each Patient among ``resources``, by its reference."""
    return {
        f"Patient/{resource['id']}": ", ".join(identifier["value"] for identifier in resource.get("identifier", ()))
        for resource in resources
        if resource["resourceType"] == "Patient"
    }


class _Writer:
    """Writes the lines of one resource.

    ``shows_extensions``: a line shows content that is in extensions only, which decides ``Narrative.status``.
    """

    def __init__(self, resource: Resource, patients: Patients) -> None:
        self.resource, self.patients = resource, patients
        self.shows_extensions = False

    def lines(self) -> Iterator[str]:
        """Yield the lines up to the vendor's words."""
        resource = self.resource
        heading, *rows = SHOWN.get(resource["resourceType"], (Row(resource["resourceType"], "code"),))
        yield _line(heading.label, self.words(resource, heading.path)) or heading.label
        if patient := self._patient():
            yield f"Patient: {patient}"
        yield from self._line("Status", "status")
        yield from self._line("Intent", "intent")
        for status in _extensions(resource, "vendor-status"):
            self.shows_extensions = True
            yield f"Status in the vendor's words: {status['valueString']}"
        for name, label in TIMES.items():
            yield from self._line(label, name)
        for row in rows:
            yield from self._line(row.label, row.path)
        if "entry" in resource:
            yield f"Entries: {len(resource['entry'])}"

    def lists(self) -> Iterator[str]:
        """Yield the lists: answers, values kept as sent, and flags."""
        yield items(self._answers(self.resource.get("item", ())))
        if self.resource["resourceType"] != "Provenance":  # a Provenance keeps all unplaced leaves: too many to show
            kept = [f"Sent as {sent['path']}: {sent['value']}" for sent in _sent(self.resource)]
            self.shows_extensions |= bool(kept)
            yield items(kept)
        yield items(_flags(self.resource))

    # -- words

    def _line(self, label: str, path: str) -> Iterator[str]:
        if line := _line(label, self.words(self.resource, path)):
            yield line

    def words(self, parent: Element, path: str) -> list[str]:
        """Return the texts of all elements at a path below ``parent``."""
        step, _, rest = path.partition(".")
        names = [step]
        if step.endswith("*"):
            stem = step[:-1]
            names = [name for name in parent if name.startswith(stem) and not name.startswith("_")]
        if not rest:
            return [text for name in names for text in self._element(parent, name)]
        inner = [item for name in names for item in _listed(parent.get(name))]
        return [text for item in inner for text in self.words(item, rest)]

    def _element(self, parent: Element, name: str) -> Iterator[str]:
        value, companion = parent.get(name), parent.get(f"_{name}")
        if isinstance(value, list | dict):
            yield from filter(None, map(self._complex, _listed(value)))
        elif text := _with_notes("" if value is None else _plain(value), self._notes(companion)):
            yield text

    def _complex(self, value: Any) -> str:
        """Return the text of a value of a complex data type, which is recognized by the names of its elements."""
        if not isinstance(value, dict):
            return _plain(value)
        if "start" in value or "end" in value:
            times = [
                (label, " ".join(self._element(value, name))) for label, name in (("from", "start"), ("to", "end"))
            ]
            text = " ".join(f"{label} {time}" for label, time in times if time)
        elif "coding" in value:
            text = value.get("text", "")
            text = _with_notes(text, list(filter(None, (_code(coding, text) for coding in value["coding"]))))
        elif "family" in value or "given" in value:
            text = " ".join([*value.get("given", ()), value.get("family", "")]).strip()
        elif "outcome" in value:
            text = ", ".join(
                text
                for path in ("outcome", "probabilityDecimal", "qualitativeRisk")
                for text in self.words(value, path)
            )
        elif "code" in value and isinstance(value["code"], dict):  # a component
            text = ": ".join(text for path in ("code", "value*") for text in self.words(value, path))
        elif "value" in value:
            words = [*self.words(value, "type"), _plain(value["value"]), str(value.get("unit", ""))]
            text = " ".join(filter(None, words))
        elif "system" in value and "code" in value:
            text = _code(value)
        else:
            text = value.get("text") or value.get("display") or " ".join(self.words(value, "identifier"))
        return _with_notes(text, self._notes(value))

    def _notes(self, element: Element | None) -> list[str]:
        """Return notes on a value from the extensions of its element: why it is absent, its basis, its time zone."""
        notes = []
        for extension in (element or {}).get("extension", ()):
            if extension["url"] == DATA_ABSENT:
                notes.append(ABSENT.get(extension["valueCode"], extension["valueCode"]))
            elif extension["url"].endswith("/value-basis"):
                notes.append(BASIS[extension["valueCode"]])
            elif extension["url"].endswith("/tz-code"):
                notes.append(extension["valueCode"])
        self.shows_extensions |= bool(notes)
        return notes

    def _answers(self, questions: Iterable[Element], above: str = "") -> Iterator[str]:
        """Yield a line per question that has no questions below it, with the headings above it and its answers."""
        for question in questions:
            heading = f"{above}{question.get('text') or question['linkId']}"
            answers = self.words(question, "answer.value*")
            if answers or not question.get("item"):
                yield f"{heading}: {'; '.join(answers)}" if answers else f"{heading}: not answered"
            yield from self._answers(question.get("item", ()), f"{heading} / ")

    def _patient(self) -> str | None:
        """Return the identifier of the first patient that the resource refers to."""
        if self.resource["resourceType"] == "Patient":
            return None
        for reference in _references(self.resource):
            if (literal := reference.get("reference", "")).startswith("Patient/"):
                return self.patients.get(literal)
            if reference.get("type") == "Patient" and "identifier" in reference:
                return str(reference["identifier"]["value"])
        return None


def _line(label: str, words: list[str]) -> str | None:
    return f"{label}: {'; '.join(words)}" if words else None


def _with_notes(text: str, notes: list[str]) -> str:
    joined = "; ".join(notes)
    return f"{text} ({joined})" if text and joined else text or joined


def _code(coding: Element, text: str = "") -> str:
    """Return display and code, unless they repeat ``text``."""
    words = {word.casefold(): word for word in (coding.get("code", ""), coding.get("display", "")) if word}
    return " ".join(word for folded, word in reversed(words.items()) if folded != text.casefold())


def _plain(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _extensions(element: Element, name: str) -> list[Element]:
    return [extension for extension in element.get("extension", ()) if extension["url"].endswith(f"/{name}")]


def _sent(value: Any) -> Iterator[Mapping[str, str]]:
    """Yield the parts of every ``source-data`` and ``source-value`` at or below a value (mapping.md §5.2)."""
    if isinstance(value, dict):
        for name in ("source-data", "source-value"):
            for extension in _extensions(value, name):
                yield {part["url"]: part.get("valueString", "") for part in extension["extension"]}
        value = [item for item in value.values() if isinstance(item, dict | list)]
    for item in value if isinstance(value, list) else ():
        yield from _sent(item)


def _references(value: Any) -> Iterator[Element]:
    if isinstance(value, dict):
        if "reference" in value or "identifier" in value:
            yield value
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _references(item)


def _flags(resource: Resource) -> list[str]:
    """Return the resource's data-quality tags in plain words."""
    tags = resource["meta"].get("tag", ())
    codes = [tag["code"] for tag in tags if tag.get("system", "").endswith("/CodeSystem/data-quality")]
    return [tables.flags().flags[code].text for code in codes]
