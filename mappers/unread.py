"""Values of a list that are no items (mapping.md §2.4)."""

from collections.abc import Sequence
from typing import Any

from fhirline.mappers.payload import absent


def unread(pointer: str, models: Sequence[Any], raw: Any) -> list[str]:
    """Return the JSON Pointers of values that could not be read as items: a bare name, for example.

    ``models`` is the list's field of the payload model, ``raw`` what was sent at ``pointer``.
    """
    sent = raw if isinstance(raw, list) else [raw]
    return [
        f"{pointer}/{position}" if isinstance(raw, list) else pointer
        for position, (model, item) in enumerate(zip(models, sent, strict=False))
        if model is None and not absent(item)
    ]
