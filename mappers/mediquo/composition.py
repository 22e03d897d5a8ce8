"""A MediQuo report → Composition, and its opt-in twin DocumentReference (mapping.md §8.1.3, §8.2)."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.config import tables
from fhirline.mappers.context import Context, last_writer
from fhirline.mappers.fhir.elements import LOINC, codeable_concept, coding, data_absent, element, listed, reference
from fhirline.mappers.fhir.narrative import items, narrative, paragraphs
from fhirline.mappers.identity import Part, norm
from fhirline.mappers.mediquo.compartment import Compartment
from fhirline.mappers.mediquo.sections import Section, sections
from fhirline.mappers.pipeline.envelope import canonical
from fhirline.mappers.results import Element, Flags, NewResource

TELEHEALTH_NOTE = coding(LOINC, "75496-0", "Telehealth Note")
CONSULT_NOTE = coding(LOINC, "11488-4", "Consult note")

AUTHOR_NOT_SUPPLIED: Element = {**data_absent("unknown"), "display": "MediQuo professional (not supplied)"}
"""``author`` is required; the vendor's organization is not the author of clinical text (mapping.md §8.2)."""


@dataclass(frozen=True, slots=True)
class Note:
    """A report as either event sends it. ``content`` is read (cleaned) below ``pointer``."""

    type: str | None
    content: Mapping[str, Any]
    pointer: str
    kind: str
    key: tuple[Part, ...]
    identifier: Element | None = None
    encounter: str | None = None


def fingerprint(content: Any) -> str:
    """SHA-256 of a report's content in canonical form: equal text can be correlated, and is not identity."""
    return hashlib.sha256(canonical(content)).hexdigest()


def note(sent: Note, compartment: Compartment, flags: Flags) -> list[NewResource]:
    """The Composition, with its twin where the tenant wants one; nothing where no section has text."""
    soap = sent.type is not None and norm(sent.type) == "soap"
    parts = sections(sent.content, f"{sent.pointer}/content", soap, flags)
    if not parts:
        return []
    made = [composition(sent, parts, soap, compartment, flags)]
    if compartment.context.settings.note_documents:
        made.append(document_reference(sent, parts, soap, compartment, flags))
    return made


def composition(
    sent: Note, parts: Sequence[Section], soap: bool, compartment: Compartment, flags: Flags
) -> NewResource:
    context = compartment.context
    resource = compartment.resource(
        "Composition",
        sent.kind,
        sent.key,
        text=_narrative(sent, parts, soap, compartment, flags),
        extension=[{"url": context.naming.extension("content-fingerprint"), "valueString": fingerprint(sent.content)}],
        identifier=sent.identifier,
        status="final",
        type=_type(sent.type, soap),
        category=_category(soap),
        subject=compartment.subject,
        encounter=reference(sent.encounter),
        date=context.time.instant.text,
        _date=context.basis_event_time,
        author=[_author(sent, compartment)],
        title=_title(soap),
        confidentiality=context.settings.confidentiality,
        custodian=reference(context.organization),
        section=[
            element(
                title=each.title,
                code=codeable_concept(each.code),
                text=narrative("additional", each.block),
            )
            for each in parts
        ],
    )
    return last_writer(resource, flags)


def document_reference(
    sent: Note, parts: Sequence[Section], soap: bool, compartment: Compartment, flags: Flags
) -> NewResource:
    """The same note as plain text, for EHRs that take no Composition (tenant setting ``note_documents``)."""
    context = compartment.context
    text = "\n\n".join("\n".join(listed(each.title, each.text) or []) for each in parts)
    resource = compartment.resource(
        "DocumentReference",
        "document",
        sent.key,
        identifier=listed(sent.identifier),
        status="current",
        docStatus="final",
        type=_type(sent.type, soap),
        category=_category(soap),
        subject=compartment.subject,
        date=context.time.instant.text,
        _date=context.basis_event_time,
        author=[_author(sent, compartment)],
        custodian=reference(context.organization),
        content=[
            {
                "attachment": {
                    "contentType": "text/plain; charset=utf-8",
                    "data": b64encode(text.encode()).decode(),
                    "title": _title(soap),
                }
            }
        ],
        context={
            **(element(encounter=listed(reference(sent.encounter))) or {}),
            "related": [reference(composition_reference(sent, compartment))],
        },
    )
    return last_writer(resource, flags)


def composition_reference(sent: Note, compartment: Compartment) -> str:
    return compartment.context.reference("Composition", sent.kind, compartment.code, *sent.key)


def _type(sent: str | None, soap: bool) -> Element | None:
    if soap:
        return codeable_concept(TELEHEALTH_NOTE, text="SOAP report")
    return codeable_concept(text=sent) or {**data_absent("unknown"), "text": "Report without a stated type"}


def _category(soap: bool) -> list[Element] | None:
    return listed(codeable_concept(CONSULT_NOTE)) if soap else None


def _title(soap: bool) -> str:
    return "SOAP report" if soap else "MediQuo report"


def _author(sent: Note, compartment: Compartment) -> Element:
    return compartment.professional or AUTHOR_NOT_SUPPLIED


def _narrative(
    sent: Note, parts: Sequence[Section], soap: bool, compartment: Compartment, flags: Flags
) -> Element | None:
    """What the note is, whose, when, by whom, and what is doubtful; its sections carry the text (mapping.md §13).

    ``extensions``, because the basis of the date stands in an extension.
    """
    context = compartment.context
    author = _author(sent, compartment).get("display") or "a MediQuo professional (name not supplied)"
    return narrative(
        "extensions",
        paragraphs(_title(soap) if soap or sent.type is None else f"{_title(soap)} ({sent.type})"),
        paragraphs(f"Patient: {compartment.code}"),
        paragraphs(f"Date: {context.time.instant.text} (time of the event; when it was written is not stated)"),
        paragraphs(f"Author: {author}"),
        items(each.title for each in parts if each.title),
        *(paragraphs(text) for text in _remarks(context, flags)),
    )


def _remarks(context: Context, flags: Flags) -> list[str]:
    codes = {*context.time.flags, *(flag.code for flag in flags)}
    return [tables.flags().flags[code].text for code in sorted(codes)]
