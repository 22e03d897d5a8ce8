"""Medication: a drug as a resource of its own, which prescriptions refer to (mapping.md §4.6).

It is named by its content, and its content names neither a patient nor an event. So equal drugs of a tenant are one
resource, whoever prescribed them, and no event ever changes it.
"""

import hashlib
import re
from typing import Any, NamedTuple

from fhirline.mappers.context import Context, constant
from fhirline.mappers.fhir.elements import codeable_concept, element, listed, reference
from fhirline.mappers.pipeline.envelope import canonical
from fhirline.mappers.results import Element, NewResource

LONGEST_NAME = 200
"""Characters of a drug's name or form: registers' names with strength, form and pack are shorter, prose is longer."""

_PERSONAL = re.compile(r"@|://|[\r\n]|(?:\d[ .()/-]{0,2}){7}\d")
"""An address, several lines, or a number of eight digits, as of a telephone or an identity card."""


def reads_like_a_drug(*texts: str | None) -> bool:
    """Tell whether texts sent as a drug's name or form may be in a resource that no patient's erasure removes.

    They come from lists of drugs, but nothing keeps a sender from writing prose there. What reads like a note, an
    address or a long number stays in the patient's own resource (mapping.md §4.6).

    >>> reads_like_a_drug("COLECALCIFEROL 50000 IU/ML, ORAL SOL.", "Prolonged-release capsule, hard", None)
    True
    >>> [reads_like_a_drug(text) for text in ("call 06 12 34 56 78", "ask mother@example.org", "tablet\\nfor her son")]
    [False, False, False]
    """
    return not any(text and (len(text) > LONGEST_NAME or _PERSONAL.search(text)) for text in texts)


def medication(context: Context, **content: Any) -> NewResource:
    """Make a Medication of its content, elements in FHIR's order. It always has a ``code`` with a text.

    The key of its id is the SHA-256 of the content in canonical form. Nothing in it may depend on the event: no
    extension with a JSON Pointer, no flag.
    """
    digest = hashlib.sha256(canonical(element(**content))).hexdigest()
    return constant(context.resource("Medication", "content", (digest,), **content))


class NamedDrug(NamedTuple):
    """A drug of which a name is sent, and perhaps its substance.

    ``resource``: its Medication. ``choice``: ``medication[x]`` of a request. It refers to the Medication or, where
    there is none because the text has to stay with the patient, holds the name itself.
    """

    resource: NewResource | None
    choice: Element


def named_drug(context: Context, name: str, substance: str | None = None) -> NamedDrug:
    """Make the Medication of a name, and ``medication[x]`` of a request for it."""
    code = codeable_concept(text=name)
    if not reads_like_a_drug(name, substance):
        return NamedDrug(None, {"medicationCodeableConcept": code})
    ingredient = listed(element(itemCodeableConcept=codeable_concept(text=substance)))
    made = medication(context, code=code, ingredient=ingredient)
    return NamedDrug(made, {"medicationReference": reference(f"Medication/{made.resource['id']}", name)})
