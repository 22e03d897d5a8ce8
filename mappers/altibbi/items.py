"""The items of a recommendation's lists (mapping.md §3.6)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, Item, Model


def grouped(context: Context, pointer: str, groups: Sequence[Any], name: str) -> Iterator[Item[Any]]:
    """Iterate over the items of the list ``name`` in every group of a list."""
    for group in context.items(pointer, groups):
        yield from context.items(f"{group.pointer}/{name}", getattr(group.model, name))


def identified(items: Iterable[Item[Model]], *names: str, build: MappingBuilder) -> Iterator[Item[Model]]:
    """Iterate over the items that have one of the fields ``names``. The others yield nothing, flag ``item-empty``."""
    for item in items:
        if any(getattr(item.model, name) for name in names):
            yield item
        else:
            build.flag("item-empty", item.pointer)
