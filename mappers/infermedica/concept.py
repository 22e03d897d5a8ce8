"""Infermedica's own concept ids (``s_13``, ``c_38``, ``p_7``) as codings (mapping.md §10)."""

import re

from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import codeable_concept
from fhirline.mappers.results import Element

_CODE = re.compile(r"[^\s]+(\s[^\s]+)*")


def concept(id: str | None, name: str | None, context: Context, also: Element | None = None) -> Element | None:
    """The concept, and another coding of it; its id as text where it is no valid code and there is no name."""
    valid = id is not None and bool(_CODE.fullmatch(id))
    code = context.coding("infermedica-concept", id) if id and valid else None
    return codeable_concept(code, also, text=name or (id if not valid else None))
