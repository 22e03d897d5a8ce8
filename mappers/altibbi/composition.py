"""Altibbi recommendation → Composition, the reading view (mapping.md §9.2.8), and its opt-in twin (§8.1.3)."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from fhirline.config import tables
from fhirline.mappers.altibbi.children import Child
from fhirline.mappers.altibbi.consultation import Consultation
from fhirline.mappers.altibbi.post_call import Answers
from fhirline.mappers.fhir import narrative
from fhirline.mappers.fhir.elements import LOINC, codeable_concept, coding, data_absent, element, reference
from fhirline.mappers.identity import norm
from fhirline.mappers.results import Element, Resource

TITLE = "Altibbi medical recommendation"
AUTHOR = "Altibbi doctor (not supplied)"
TYPE = coding(LOINC, "75496-0", "Telehealth Note")
CONSULT_NOTE = coding(LOINC, "11488-4", "Consult note")


@dataclass(frozen=True, slots=True)
class Found:
    """What a recommendation made, in the order of the Composition's sections."""

    symptom: Sequence[Child]
    diagnosis: Sequence[Child]
    medication: Sequence[Child]
    laboratory: Sequence[Child]
    referral: Sequence[Child]
    plan: Sequence[Child]
    response: Sequence[Child]

    def __iter__(self) -> Iterator[Child]:
        for each in fields(self):
            yield from getattr(self, each.name)


@dataclass(frozen=True, slots=True)
class Section:
    """``texts`` are the doctor's own words; ``entries`` also say how they read."""

    title: str
    code: Element | None
    texts: Sequence[str]
    entries: Sequence[Child] = ()

    @property
    def lines(self) -> list[str]:
        return [line for child in self.entries for line in child.words]

    def as_element(self) -> Element | None:
        """``cmp-1``: a section has text or entries."""
        blocks = (*map(narrative.paragraphs, self.texts), narrative.items(self.lines))
        return element(
            title=self.title,
            code=codeable_concept(self.code),
            text=narrative.narrative("additional", *blocks),
            entry=[reference(child.reference) for child in self.entries],
        )

    def as_text(self) -> str:
        return "\n".join((self.title, *self.texts, *(f"- {line}" for line in self.lines)))


def reading_view(answers: Answers, found: Found, consultation: Consultation) -> list[Child]:
    """The Composition, and for tenants that want it the same as a document; none where there is nothing to read."""
    sections = [each for each in _sections(answers, found) if each.texts or each.entries]
    if not sections:
        return []
    composition = Child(_composition(sections, consultation))
    if not consultation.context.settings.note_documents:
        return [composition]
    return [composition, Child(_document(sections, composition, consultation))]


def _sections(answers: Answers, found: Found) -> list[Section]:
    known: dict[str, list[str]] = {}
    others: list[str] = []
    for question, given in answers.items():
        if norm(question) in ("doctor_notes", "symptoms", "diagnosis", "fda_drug", "lab_codes"):
            known.setdefault(norm(question), []).extend(given)
        else:
            others.extend(f"{question}: {answer}" for answer in given)
    return [
        Section("Doctor notes", coding(LOINC, "34109-9", "Note"), known.get("doctor_notes", ())),
        Section("Symptoms", None, known.get("symptoms", ()), found.symptom),
        Section("Diagnosis", coding(LOINC, "29308-4", "Diagnosis"), known.get("diagnosis", ()), found.diagnosis),
        # No display: R4 prints "Prescription list Document", LOINC "Prescription list".
        Section("Medication", coding(LOINC, "57828-6"), known.get("fda_drug", ()), found.medication),
        Section("Laboratory", None, known.get("lab_codes", ()), found.laboratory),
        Section("Referral", None, (), found.referral),
        Section("Follow-up", coding(LOINC, "18776-5", "Plan of care note"), (), found.plan),
        Section("Other answers", None, others, found.response),
    ]


def _author() -> Element:
    return {**data_absent("unknown"), "display": AUTHOR}


def _composition(sections: Sequence[Section], consultation: Consultation) -> Resource:
    return consultation.resource(
        "Composition",
        "recommendation",
        (),
        text=_narrative(sections, consultation),
        status="final",
        type=codeable_concept(TYPE),
        subject=consultation.to_patient,
        encounter=consultation.to_encounter,
        date=consultation.time,
        _date=consultation.time_basis,
        author=[_author()],
        title=TITLE,
        section=[section.as_element() for section in sections],
    )


def _narrative(sections: Sequence[Section], consultation: Consultation) -> Element | None:
    """What it is, whose, when, by whom, and what is doubtful about the time; its sections carry the text (§13).

    ``extensions``, because the basis of the date stands in an extension.
    """
    return narrative.narrative(
        "extensions",
        narrative.paragraphs(TITLE),
        narrative.paragraphs(f"Patient: {consultation.user}"),
        narrative.paragraphs(f"Date: {consultation.time} (time of the event; when it was written is not stated)"),
        narrative.paragraphs(f"Author: {AUTHOR}"),
        narrative.items(section.title for section in sections),
        *(narrative.paragraphs(tables.flags().flags[code].text) for code in consultation.context.time.flags),
    )


def _document(sections: Sequence[Section], composition: Child, consultation: Consultation) -> Resource:
    """Few EHRs take in a bare Composition."""
    text = "\n\n".join(section.as_text() for section in sections)
    return consultation.resource(
        "DocumentReference",
        "document",
        (),
        status="current",
        docStatus="final",
        type=codeable_concept(TYPE),
        category=[codeable_concept(CONSULT_NOTE)],
        subject=consultation.to_patient,
        date=consultation.time,
        _date=consultation.time_basis,
        author=[_author()],
        custodian=reference(consultation.context.organization),
        content=[
            {
                "attachment": {
                    "contentType": "text/plain; charset=utf-8",
                    "data": b64encode(text.encode()).decode(),
                    "title": TITLE,
                }
            }
        ],
        context={"encounter": [consultation.to_encounter], "related": [reference(composition.reference)]},
    )
