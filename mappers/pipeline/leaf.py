"""One leaf of an event's body, and how it was treated (mapping.md §1, rule 2)."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Treatment = Literal["mapped", "kept", "withheld", "ignored"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Annotation of a payload field: the treatment of its leaves, and the paragraph of mapping.md that demands it.

    Use ``mapped`` for a free-form field that the mapping reads whole, ``kept`` for a field whose value the mapping
    itself writes into an extension.
    """

    treatment: Treatment
    paragraph: str


class Leaf(NamedTuple):
    """One leaf of the body. ``rule``: a paragraph of mapping.md, or one of the constants below.

    ``unplaced``: kept, but in no extension yet; the pipeline puts it on the Provenance.
    """

    pointer: str
    value: Any
    treatment: Treatment
    rule: str
    unplaced: bool = False


ABSENT = "rule 5"
DECLARED = "model"
"""A field of the payload model."""
UNRULED = "no rule"
"""No model names the field, or its value has another form than the model's."""
LOOKS_SECRET = "§7, last row"
OMITTED = "omitted"
"""The mapping did not use a field of the model (`MappingResult.omitted`)."""
CUT = "§1.1"
"""Values that a mapping reads, cut from an event that is too large. The leaf's value is a `Cut`."""
NOT_SUPPORTED = "not-supported"
"""The event has no mapping: the one leaf is the whole body."""

PLACEHOLDER = "§2.6"
"""A placeholder in place of an id: it is ignored, and the event has the flag ``placeholder-id``."""
