"""Values of a list that are no items (mapping.md §2.4)."""

from collections.abc import Sequence
from typing import Any

from fhirline.mappers.json_pointer import items_of
from fhirline.mappers.payload import absent


def unread(pointer: str, models: Sequence[Any], raw: Any) -> list[str]:
    """Return the JSON Pointers of values that could not be read as items: a bare name, for example.

    ``models`` is the list's field of the payload model, ``raw`` what was sent at ``pointer``.
    """
    if not any([model is None for model in models]):  # noqa: C419  # most lists; half the time of a generator
        return []
    sent = zip(models, items_of(raw, pointer), strict=False)
    return [place for model, (place, item) in sent if model is None and not absent(item)]
