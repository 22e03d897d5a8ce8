"""Values that a mapping reads and nothing was made of, found from an event's lineage."""

from collections.abc import Iterable

from fhirline.mappers.pipeline.ledger import Ledger
from fhirline.mappers.pipeline.lineage.trial import Lineage


def unused(found: Iterable[Lineage], ledger: Ledger) -> list[str]:
    """Return the JSON Pointers of the leaves that count as mapped, and affect no leaf of any resource.

    A mapping should declare them (`MappingBuilder.omit`), so that the Provenance keeps them. A value that only a later
    event's value or the stored state hides is returned as well: use an event without earlier ones.
    """
    used = {pointer for leaf in found for pointer in leaf.affecting}
    return [leaf.pointer for leaf in ledger if leaf.treatment == "mapped" and leaf.pointer not in used]
