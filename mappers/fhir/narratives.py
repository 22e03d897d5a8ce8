"""Narratives of whole resources (mapping.md §13): by template, from their final content alone.

What it is, whose (identifier, not name), its state, when and on what basis, the vendor's words, what is only kept in
extensions, and every data-quality flag in plain words; in this order.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fhirline.config import tables
from fhirline.mappers.fhir.elements import DATA_ABSENT
from fhirline.mappers.fhir.narrative import items, narrative, paragraphs
from fhirline.mappers.results import Element, Resource

Patients = Mapping[str, str]
"""``Patient/<id>`` → its identifiers, in words."""


class Row(NamedTuple):
    """One line: a label, and where its words are; ``.`` descends, also through lists, ``*`` ends a choice's name."""

    label: str
    path: str


SHOWN: Mapping[str, tuple[Row, ...]] = {
    name: tuple(Row(*row) for row in rows)
    for name, rows in {
        "AllergyIntolerance": [
            ("Allergy or intolerance", "code"),
            ("Clinical status", "clinicalStatus"),
            ("Reaction", "reaction.manifestation"),
            ("Note", "note"),
        ],
        "Appointment": [
            ("Appointment", "description"),
            ("Type", "appointmentType"),
            ("Service", "serviceType"),
            ("Reason", "reasonCode"),
            ("Reason of cancellation", "cancelationReason"),
            ("Minutes", "minutesDuration"),
            ("Participant", "participant.actor"),
        ],
        "AuditEvent": [
            ("Audit event", "type"),
            ("Concerning", "entity.what"),
            ("Detail", "entity.detail.value*"),
        ],
        "CarePlan": [("Care plan", "title"), ("Activity", "activity.detail.description"), ("Note", "note")],
        "CareTeam": [("Care team", "name"), ("Member", "participant.member"), ("Role", "participant.role")],
        "Communication": [
            ("Communication", "category"),
            ("Topic", "topic"),
            ("About", "about"),
            ("Content", "payload.content*"),
        ],
        "Condition": [("Condition", "code"), ("Note", "note")],
        "Coverage": [("Coverage", "type"), ("Identifier", "identifier"), ("Payor", "payor")],
        "Device": [("Device", "deviceName.name"), ("Version", "version.value")],
        "DocumentReference": [
            ("Document", "type"),
            ("Title", "content.attachment.title"),
            ("Format", "content.attachment.contentType"),
            ("Address", "content.attachment.url"),
            ("Author", "author"),
            ("Description", "description"),
        ],
        "Encounter": [
            ("Encounter", "class"),
            ("Type", "type"),
            ("Service", "serviceType"),
            ("Participant", "participant.individual"),
            ("Earlier status", "statusHistory.status"),
        ],
        "EpisodeOfCare": [("Episode of care", "type")],
        "List": [("List", "title"), ("Empty", "emptyReason"), ("Note", "note")],
        "MedicationRequest": [
            ("Prescription", "medication*"),
            ("Dosage", "dosageInstruction.text"),
            ("Instruction", "dosageInstruction.additionalInstruction"),
            ("For the patient", "dosageInstruction.patientInstruction"),
            ("Product", "contained.identifier"),
            ("Requester", "requester"),
            ("Note", "note"),
        ],
        "MedicationStatement": [("Medication", "medication*"), ("Dosage", "dosage.text"), ("Note", "note")],
        "Observation": [
            ("Observation", "code"),
            ("Value", "value*"),
            ("No value", "dataAbsentReason"),
            ("Part", "component"),
            ("Note", "note"),
        ],
        "OperationOutcome": [("Remarks on an event", "issue.details")],
        "Organization": [("Organization", "name")],
        "Patient": [("Patient", "identifier")],
        "Practitioner": [("Practitioner", "name")],
        "Provenance": [("Provenance", "activity"), ("Source", "entity.what"), ("Agent", "agent.type")],
        "QuestionnaireResponse": [("Answers", "questionnaire")],
        "RiskAssessment": [("Risk assessment", "code"), ("Prediction", "prediction")],
        "Schedule": [("Schedule", "actor")],
        "ServiceRequest": [
            ("Request", "code"),
            ("Category", "category"),
            ("Performer", "performerType"),
            ("Requester", "requester"),
            ("Note", "note"),
        ],
        "Slot": [("Slot", "comment")],
        "Task": [("Task", "code"), ("Status in the vendor's words", "businessStatus"), ("Note", "note")],
    }.items()
}
"""What is shown of each type; the first row says what it is."""

TIMES: Mapping[str, str] = {
    "effective": "Effective",
    "effectiveDateTime": "Effective",
    "period": "Period",
    "start": "Start",
    "end": "End",
    "authored": "Authored",
    "authoredOn": "Authored",
    "recordedDate": "Recorded",
    "created": "Created",
    "date": "Date",
    "sent": "Sent",
    "issued": "Issued",
    "occurredDateTime": "Occurred",
    "recorded": "Recorded",
}
BASIS = {
    "event-time": "time of the event, no other is stated",
    "config": "as configured",
    "default": "by default, not stated",
}
ABSENT = {
    "unknown": "not stated",
    "unsupported": "no such value in FHIR",
    "masked": "withheld",
    "as-text": "see the text",
}


def narrated(resource: Resource, patients: Patients) -> Resource:
    """``resource`` with its narrative right behind ``meta``, where it has none of its own."""
    if "text" in resource:
        return resource
    teller = _Teller(resource, patients)
    blocks = [*map(paragraphs, teller.lines()), *teller.lists()]
    text = narrative("extensions" if teller.extensions else "generated", *blocks)
    head = {name: resource[name] for name in ("resourceType", "id", "meta")}
    return {**head, "text": text, **{name: value for name, value in resource.items() if name not in head}}


def identifiers(resources: Iterable[Resource]) -> Patients:
    """The Patients among ``resources`` by what refers to them."""
    return {
        f"Patient/{each['id']}": ", ".join(identifier["value"] for identifier in each.get("identifier", ()))
        for each in resources
        if each["resourceType"] == "Patient"
    }


class _Teller:
    """Tells one resource; ``extensions``: something told stands in extensions only (Narrative.status)."""

    def __init__(self, resource: Resource, patients: Patients) -> None:
        self.resource, self.patients = resource, patients
        self.extensions = False

    def lines(self) -> Iterator[str]:
        resource = self.resource
        what, *rows = SHOWN.get(resource["resourceType"], (Row(resource["resourceType"], "code"),))
        yield _line(what.label, self.words(resource, what.path)) or what.label
        if patient := self._patient():
            yield f"Patient: {patient}"
        yield from self._line("Status", "status")
        yield from self._line("Intent", "intent")
        for vendors in _extensions(resource, "vendor-status"):
            self.extensions = True
            yield f"Status in the vendor's words: {vendors['valueString']}"
        for name, label in TIMES.items():
            yield from self._line(label, name)
        for row in rows:
            yield from self._line(row.label, row.path)
        if "entry" in resource:
            yield f"Entries: {len(resource['entry'])}"

    def lists(self) -> Iterator[str]:
        """Answers, what is kept as it was sent, and the flags."""
        yield items(self._answers(self.resource.get("item", ())))
        if self.resource["resourceType"] != "Provenance":  # what has no home is kept there, and stays raw
            kept = [f"Sent as {each['path']}: {each['value']}" for each in _sent(self.resource)]
            self.extensions |= bool(kept)
            yield items(kept)
        yield items(_flags(self.resource))

    # -- words

    def _line(self, label: str, path: str) -> Iterator[str]:
        if line := _line(label, self.words(self.resource, path)):
            yield line

    def words(self, parent: Element, path: str) -> list[str]:
        """The words of all that stands at a path below ``parent``."""
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
        elif text := _with_remarks("" if value is None else _plain(value), self._remarks(companion)):
            yield text

    def _complex(self, value: Any) -> str:
        """A data type of FHIR in words; what it is shows in its elements' names."""
        if not isinstance(value, dict):
            return _plain(value)
        if "start" in value or "end" in value:
            told = [(label, " ".join(self._element(value, name))) for label, name in (("from", "start"), ("to", "end"))]
            text = " ".join(f"{label} {time}" for label, time in told if time)
        elif "coding" in value:
            said = value.get("text", "")
            text = _with_remarks(said, list(filter(None, (_code(each, said) for each in value["coding"]))))
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
            about = [*self.words(value, "type"), _plain(value["value"]), str(value.get("unit", ""))]
            text = " ".join(filter(None, about))
        elif "system" in value and "code" in value:
            text = _code(value)
        else:
            text = value.get("text") or value.get("display") or " ".join(self.words(value, "identifier"))
        return _with_remarks(text, self._remarks(value))

    def _remarks(self, element: Element | None) -> list[str]:
        """What the extensions of an element say of its value."""
        remarks = []
        for extension in (element or {}).get("extension", ()):
            if extension["url"] == DATA_ABSENT:
                remarks.append(ABSENT.get(extension["valueCode"], extension["valueCode"]))
            elif extension["url"].endswith("/value-basis"):
                remarks.append(BASIS[extension["valueCode"]])
            elif extension["url"].endswith("/tz-code"):
                remarks.append(extension["valueCode"])
        self.extensions |= bool(remarks)
        return remarks

    def _answers(self, questions: Iterable[Element], above: str = "") -> Iterator[str]:
        """A line per answered question, behind the headings it stands under."""
        for question in questions:
            heading = f"{above}{question.get('text') or question['linkId']}"
            answers = self.words(question, "answer.value*")
            if answers or not question.get("item"):
                yield f"{heading}: {'; '.join(answers)}" if answers else f"{heading}: not answered"
            yield from self._answers(question.get("item", ()), f"{heading} / ")

    def _patient(self) -> str | None:
        """The identifier of the first patient that is referred to."""
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


def _with_remarks(text: str, remarks: list[str]) -> str:
    told = "; ".join(remarks)
    return f"{text} ({told})" if text and told else text or told


def _code(coding: Element, said: str = "") -> str:
    """Display and code, as far as they are not what is ``said`` already."""
    words = {word.casefold(): word for word in (coding.get("code", ""), coding.get("display", "")) if word}
    return " ".join(word for same, word in reversed(words.items()) if same != said.casefold())


def _plain(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _extensions(element: Element, name: str) -> list[Element]:
    return [each for each in element.get("extension", ()) if each["url"].endswith(f"/{name}")]


def _sent(value: Any) -> Iterator[Mapping[str, str]]:
    """Every ``source-data`` and ``source-value`` at or below a value (mapping.md §5.2)."""
    if isinstance(value, dict):
        for name in ("source-data", "source-value"):
            for each in _extensions(value, name):
                yield {part["url"]: part.get("valueString", "") for part in each["extension"]}
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
    """The resource's data-quality tags in plain words."""
    tags = resource["meta"].get("tag", ())
    codes = [tag["code"] for tag in tags if tag.get("system", "").endswith("/CodeSystem/data-quality")]
    return [tables.flags().flags[code].text for code in codes]
