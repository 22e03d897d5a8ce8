"""Infermedica's concept ids (``s_13``, ``c_38``, ``p_7``) → CodeableConcept (mapping.md §10)."""

import re

from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import codeable_concept
from fhirline.mappers.infermedica.declarations import CONCEPT
from fhirline.mappers.results import Element

_CODE = re.compile(r"[^\s]+(\s[^\s]+)*")


def concept(id: str | None, name: str | None, context: Context, also: Element | None = None) -> Element | None:
    """Make the CodeableConcept of a concept; ``also`` is another Coding of it. None without id and name.

    An id that is no valid FHIR code is the text of a concept without a name.
    """
    valid = id is not None and bool(_CODE.fullmatch(id))
    code = context.coding(CONCEPT, id) if id and valid else None
    return codeable_concept(code, also, text=name or (id if not valid else None))
