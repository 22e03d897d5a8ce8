"""Altibbi recommendation → Composition, its reading view (mapping.md §9.2.8), and DocumentReference (§8.1.3)."""

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

DOCTORS_QUESTIONS = ("doctor_notes", "symptoms", "diagnosis", "fda_drug", "lab_codes")
"""Questions whose answers are the text of a section; all others are "Other answers"."""


@dataclass(frozen=True, slots=True)
class SectionEntries:
    """The children that the sections of the Composition refer to, one field per section, in their order."""

    symptoms: Sequence[Child]
    diagnoses: Sequence[Child]
    medication: Sequence[Child]
    laboratory: Sequence[Child]
    referrals: Sequence[Child]
    follow_up: Sequence[Child]
    responses: Sequence[Child]

    def __iter__(self) -> Iterator[Child]:
        for section in fields(self):
            yield from getattr(self, section.name)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the Composition: ``texts`` are the doctor's own words, ``entries`` the resources that it lists."""

    title: str
    code: Element | None
    texts: Sequence[str]
    entries: Sequence[Child] = ()

    @property
    def lines(self) -> list[str]:
        """Return the texts of all entries."""
        return [line for child in self.entries for line in child.lines]

    def as_element(self) -> Element | None:
        """Make the section of the Composition."""
        blocks = (*map(narrative.paragraphs, self.texts), narrative.items(self.lines))
        return element(
            title=self.title,
            code=codeable_concept(self.code),
            text=narrative.narrative("additional", *blocks),
            entry=[reference(child.reference) for child in self.entries],
        )

    def as_text(self) -> str:
        """Write the section as plain text."""
        return "\n".join((self.title, *self.texts, *(f"- {line}" for line in self.lines)))


def reading_view(answers: Answers, entries: SectionEntries, consultation: Consultation) -> list[Child]:
    """Make the Composition, and the DocumentReference where the tenant wants it; neither without a section.

    ``cmp-1`` requires text or entries in a section, so that one without either is left out.
    """
    sections = [section for section in _sections(answers, entries) if section.texts or section.entries]
    if not sections:
        return []
    composition = Child(_composition(sections, consultation))
    if not consultation.context.settings.note_documents:
        return [composition]
    return [composition, Child(_document(sections, composition, consultation))]


def _sections(answers: Answers, entries: SectionEntries) -> list[Section]:
    """Make the sections in the order of mapping.md §9.2.8, second table."""
    texts: dict[str, list[str]] = {name: [] for name in DOCTORS_QUESTIONS}
    others: list[str] = []
    for question, given in answers.items():
        if norm(question) in texts:
            texts[norm(question)].extend(given)
        else:
            others.extend(f"{question}: {answer}" for answer in given)
    return [
        Section("Doctor notes", coding(LOINC, "34109-9", "Note"), texts["doctor_notes"]),
        Section("Symptoms", None, texts["symptoms"], entries.symptoms),
        Section("Diagnosis", coding(LOINC, "29308-4", "Diagnosis"), texts["diagnosis"], entries.diagnoses),
        # No display: R4 prints "Prescription list Document", LOINC "Prescription list".
        Section("Medication", coding(LOINC, "57828-6"), texts["fda_drug"], entries.medication),
        Section("Laboratory", None, texts["lab_codes"], entries.laboratory),
        Section("Referral", None, (), entries.referrals),
        Section("Follow-up", coding(LOINC, "18776-5", "Plan of care note"), (), entries.follow_up),
        Section("Other answers", None, others, entries.responses),
    ]


def _author() -> Element:
    """Make the author: required, and never sent."""
    return {**data_absent("unknown"), "display": AUTHOR}


def _composition(sections: Sequence[Section], consultation: Consultation) -> Resource:
    return consultation.resource(
        "Composition",
        "recommendation",
        (),
        text=_narrative(sections, consultation),
        status="final",
        type=codeable_concept(TYPE),
        subject=consultation.subject,
        encounter=consultation.encounter,
        date=consultation.time,
        _date=consultation.time_basis,
        author=[_author()],
        title=TITLE,
        confidentiality=consultation.context.settings.confidentiality,
        custodian=reference(consultation.context.organization),
        section=[section.as_element() for section in sections],
    )


def _narrative(sections: Sequence[Section], consultation: Consultation) -> Element | None:
    """Make the narrative: title, patient, date, author and the flags of the time (mapping.md §13).

    Its sections contain the text. The status is ``extensions`` because the date's basis is in an extension.
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
    """Make the same note as plain text, for EHRs that take no Composition (tenant setting ``note_documents``)."""
    text = "\n\n".join(section.as_text() for section in sections)
    return consultation.resource(
        "DocumentReference",
        "document",
        (),
        status="current",
        docStatus="final",
        type=codeable_concept(TYPE),
        category=[codeable_concept(CONSULT_NOTE)],
        subject=consultation.subject,
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
        context={"encounter": [consultation.encounter], "related": [reference(composition.reference)]},
    )
