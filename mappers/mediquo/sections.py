"""The parts of a MediQuo report → Composition.section (mapping.md §8.1.3, second table)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from fhirline.mappers.fhir.elements import LOINC, coding
from fhirline.mappers.fhir.narrative import paragraphs, preformatted
from fhirline.mappers.json_pointer import escape
from fhirline.mappers.payload import clean
from fhirline.mappers.pipeline.redaction.credentials import is_opaque, opaque_withheld
from fhirline.mappers.pipeline.redaction.keys import secret_if_opaque, secret_key
from fhirline.mappers.pipeline.redaction.redact import REDACTED
from fhirline.mappers.results import Element, Flags

SOAP: Mapping[str, tuple[str, Element]] = {
    "subjective": ("Subjective", coding(LOINC, "61150-9", "Subjective Narrative")),
    "objective": ("Objective", coding(LOINC, "61149-1", "Objective Narrative")),
    "assessment": ("Assessment", coding(LOINC, "51848-0", "Evaluation note")),
    "plan": ("Plan", coding(LOINC, "18776-5", "Plan of care note")),
}


@dataclass(frozen=True, slots=True)
class Section:
    """A section with text; ``block`` is the XHTML of ``text``."""

    title: str | None
    code: Element | None
    text: str
    block: str


def sections(content: Mapping[str, Any], pointer: str, soap: bool, flags: Flags) -> list[Section]:
    """Make the SOAP sections in their order, then the others sorted by key: the order of an object has no meaning.

    A part without text makes no section, flag ``section-missing``: ``cmp-1`` and ``cmp-2`` forbid an empty one. Opaque
    values below a key of a secret are withheld (mapping.md §7), flag ``withheld-secret``. ``soap`` tells whether the
    report's type is SOAP. ``pointer`` is that of ``content``.
    """
    names = [*(SOAP if soap else ()), *sorted(key for key in content if not (soap and key in SOAP))]
    made = []
    for name in names:
        title, code = SOAP[name] if soap and name in SOAP else (clean(name), None)
        value = content.get(name)
        shown = _without_secrets(value, name)
        if shown is not value:
            flags.add("withheld-secret", f"{pointer}/{escape(name)}")
        if section := _section(title, code, shown):
            made.append(section)
        else:
            flags.add("section-missing", f"{pointer}/{escape(name)}")
    return made


def _without_secrets(value: Any, key: str = "") -> Any:
    """Return a value without the opaque leaves below a key of a secret; the same value where it has none."""
    if secret_key(key):
        shown = opaque_withheld(value)
        return value if shown == value else shown
    if isinstance(value, str):
        return REDACTED if secret_if_opaque(key) and is_opaque(value) else value
    if isinstance(value, dict):
        members = {key: _without_secrets(item, key) for key, item in value.items()}
        return members if any(members[key] is not item for key, item in value.items()) else value
    if isinstance(value, list):
        items = [_without_secrets(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _section(title: str | None, code: Element | None, value: Any) -> Section | None:
    """Make a section of a JSON value: a text is paragraphs, an object or a list is pretty-printed."""
    if value is None or value == REDACTED:
        return None
    if isinstance(value, dict | list):
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() if value else None
        text = clean(text) if text else None
        return Section(title, code, text, preformatted(text)) if text else None
    text = clean(value if isinstance(value, str) else orjson.dumps(value).decode())
    return Section(title, code, text, paragraphs(text)) if text else None
