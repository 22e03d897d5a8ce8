"""ICD-10 codes: the form of the international edition, and of the national ones (mapping.md §9.2.2)."""

import re
from typing import Annotated

from pydantic import AfterValidator

from fhirline.config.vendors import ICD10
from fhirline.mappers.fhir.elements import coding
from fhirline.mappers.payload import Text
from fhirline.mappers.results import Element

_INTERNATIONAL = re.compile(r"[A-Z][0-9]{2}(\.[0-9]{1,2})?", re.ASCII)
"""WHO's form. The second digit after the point is the fifth place of chapters XIII, XIX and XX."""

_NATIONAL = re.compile(r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?", re.ASCII)
"""The form that covers the national modifications: ICD-10-CM has letters after the second place."""


def _trimmed(text: str | None) -> str | None:
    return text.strip() if text else None


Icd10Code = Annotated[Text, AfterValidator(_trimmed)]
"""A `Text` without the white space around it."""


def icd10_coding(code: str, system: str) -> Element | None:
    """Make the Coding of a trimmed code; None if it has not the form of ``system``, which the tenant has set.

    No ``display``: it would have to come from licensed terminology.

    >>> icd10_coding("S69.90XA", "http://hl7.org/fhir/sid/icd-10") is None
    True
    >>> icd10_coding("S69.90XA", "http://hl7.org/fhir/sid/icd-10-cm")
    {'system': 'http://hl7.org/fhir/sid/icd-10-cm', 'code': 'S69.90XA'}
    """
    form = _INTERNATIONAL if system == ICD10 else _NATIONAL
    return coding(system, code) if form.fullmatch(code) else None
