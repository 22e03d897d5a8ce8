"""Find placeholders that were sent for ids, in events whose mappings claim the values that they use (mapping.md §2.6).

A claim is the treatment that a mapping records of a value by `MappingBuilder.claim`.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from fhirline.mappers.json_pointer import escape, items_of
from fhirline.mappers.payload import is_placeholder_id
from fhirline.mappers.pipeline.declared_fields import declared_fields
from fhirline.mappers.pipeline.ledger import PLACEHOLDER

PLACEHOLDER_CLAIM = f"ignored {PLACEHOLDER}"
"""Treatment of a placeholder, as `MappingBuilder.claim` takes it."""


def placeholder_ids(raw: Any, read: Any, pointer: str = "") -> Iterator[str]:
    """Iterate over the JSON Pointers of the placeholders that were sent for ids at or below ``raw`` (mapping.md §2.6).

    ``read`` is what a payload model, or `payload.Items`, has read there.
    """
    if isinstance(read, tuple):
        for (place, item), model in zip(items_of(raw, pointer), read, strict=False):
            yield from placeholder_ids(item, model, place)
    elif isinstance(read, BaseModel) and isinstance(raw, dict):
        for key, declared in declared_fields(type(read)).items():
            if key not in raw:
                continue
            value = getattr(read, declared.attribute)
            place = f"{pointer}/{escape(key)}"
            if declared.is_id and value is None and is_placeholder_id(raw[key]):
                yield place
            else:
                yield from placeholder_ids(raw[key], value, place)
