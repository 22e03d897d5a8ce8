"""MediQuo report → Composition, and DocumentReference where the tenant wants it (mapping.md §8.1.3, §8.2)."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.config import tables
from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.declarations import CONTENT_FINGERPRINT
from fhirline.mappers.fhir.elements import LOINC, codeable_concept, coding, data_absent, element, listed, reference
from fhirline.mappers.fhir.narrative import items, narrative, paragraphs
from fhirline.mappers.identity import Part, norm
from fhirline.mappers.mediquo.patient import PatientEvent
from fhirline.mappers.mediquo.sections import Section, sections
from fhirline.mappers.pipeline.envelope import canonical
from fhirline.mappers.results import Element, Flags, NewResource

TELEHEALTH_NOTE = coding(LOINC, "75496-0", "Telehealth Note")
CONSULT_NOTE = coding(LOINC, "11488-4", "Consult note")

AUTHOR_NOT_SUPPLIED: Element = {**data_absent("unknown"), "display": "MediQuo professional (not supplied)"}
"""``author`` is required; the vendor's organization is not the author of clinical text (mapping.md §8.2)."""


@dataclass(frozen=True, slots=True)
class Note:
    """A report, from either event that sends one.

    ``content`` are its parts, read at ``pointer``/content. ``kind`` and ``key`` make the resources' ids. ``encounter``
    is a Reference to the Encounter.
    """

    type: str | None
    content: Mapping[str, Any]
    pointer: str
    kind: str
    key: tuple[Part, ...]
    identifier: Element | None = None
    encounter: Element | None = None

    @property
    def is_soap(self) -> bool:
        """Tell whether the report has the parts of SOAP; another type has parts of any name."""
        return self.type is not None and norm(self.type) == "soap"


def fingerprint(content: Any) -> str:
    """Return the SHA-256 of a report's content in canonical form. It correlates equal reports (§8.2)."""
    return hashlib.sha256(canonical(content)).hexdigest()


def documents(sent: Note, patient: PatientEvent, flags: Flags) -> list[NewResource]:
    """Make the Composition, and the DocumentReference where the tenant wants one; neither where no section has text.

    ``flags`` get what the sections lack.
    """
    parts = sections(sent.content, f"{sent.pointer}/content", sent.is_soap, flags)
    if not parts:
        return []
    made = [composition(sent, parts, patient, flags)]
    if patient.context.settings.note_documents:
        made.append(document_reference(sent, parts, patient, flags))
    return made


def composition(sent: Note, parts: Sequence[Section], patient: PatientEvent, flags: Flags) -> NewResource:
    """Make the Composition (mapping.md §8.1.3, first table)."""
    context = patient.context
    resource = patient.resource(
        "Composition",
        sent.kind,
        sent.key,
        text=_narrative(sent, parts, patient, flags),
        extension=[{"url": context.naming.extension(CONTENT_FINGERPRINT), "valueString": fingerprint(sent.content)}],
        identifier=sent.identifier,
        status="final",
        type=_type(sent),
        category=_category(sent),
        subject=patient.subject,
        encounter=sent.encounter,
        date=context.time.instant.text,
        _date=context.basis_event_time,
        author=[_author(patient)],
        title=_title(sent),
        confidentiality=context.settings.confidentiality,
        custodian=reference(context.organization),
        section=[_section(part) for part in parts],
    )
    return last_writer(resource, flags)


def _section(part: Section) -> Element | None:
    return element(
        title=part.title,
        code=codeable_concept(part.code),
        text=narrative("additional", part.block),
    )


def document_reference(sent: Note, parts: Sequence[Section], patient: PatientEvent, flags: Flags) -> NewResource:
    """Make the same note as plain text, for EHRs that take no Composition (tenant setting ``note_documents``)."""
    context = patient.context
    text = "\n\n".join("\n".join(listed(part.title, part.text) or []) for part in parts)
    resource = patient.resource(
        "DocumentReference",
        "document",
        sent.key,
        identifier=listed(sent.identifier),
        status="current",
        docStatus="final",
        type=_type(sent),
        category=_category(sent),
        subject=patient.subject,
        date=context.time.instant.text,
        _date=context.basis_event_time,
        author=[_author(patient)],
        custodian=reference(context.organization),
        content=[
            {
                "attachment": {
                    "contentType": "text/plain; charset=utf-8",
                    "data": b64encode(text.encode()).decode(),
                    "title": _title(sent),
                }
            }
        ],
        context={
            **(element(encounter=listed(sent.encounter)) or {}),
            "related": [reference(composition_reference(sent, patient))],
        },
    )
    return last_writer(resource, flags)


def composition_reference(sent: Note, patient: PatientEvent) -> str:
    """Return the reference ``Composition/<id>`` of a note."""
    return patient.context.reference("Composition", sent.kind, patient.code, *sent.key)


def _type(sent: Note) -> Element | None:
    if sent.is_soap:
        return codeable_concept(TELEHEALTH_NOTE, text="SOAP report")
    return codeable_concept(text=sent.type) or {**data_absent("unknown"), "text": "Report without a stated type"}


def _category(sent: Note) -> list[Element] | None:
    return listed(codeable_concept(CONSULT_NOTE)) if sent.is_soap else None


def _title(sent: Note) -> str:
    return "SOAP report" if sent.is_soap else "MediQuo report"


def _author(patient: PatientEvent) -> Element:
    return patient.professional or AUTHOR_NOT_SUPPLIED


def _narrative(sent: Note, parts: Sequence[Section], patient: PatientEvent, flags: Flags) -> Element | None:
    """Make the narrative: title, patient, date, author, section titles and flags (mapping.md §13).

    The sections contain the text. The status is ``extensions`` because the date's basis is in an extension.
    """
    context = patient.context
    author = _author(patient).get("display") or "a MediQuo professional (name not supplied)"
    return narrative(
        "extensions",
        paragraphs(_title(sent) if sent.is_soap or sent.type is None else f"{_title(sent)} ({sent.type})"),
        paragraphs(f"Patient: {patient.code}"),
        paragraphs(f"Date: {context.time.instant.text} (time of the event; when it was written is not stated)"),
        paragraphs(f"Author: {author}"),
        items(part.title for part in parts if part.title),
        *(paragraphs(text) for text in _flag_texts(context, flags)),
    )


def _flag_texts(context: Context, flags: Flags) -> list[str]:
    """Return the flags of the event time and of the note in plain words."""
    codes = {*context.time.flags, *(flag.code for flag in flags)}
    return [tables.flags().flags[code].text for code in sorted(codes)]
