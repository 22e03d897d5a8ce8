"""The items of a recommendation's lists (mapping.md §3.6)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context, Item, Model
from fhirline.mappers.unread import unread


def readable(
    context: Context, pointer: str, models: Sequence[Model | None], build: MappingBuilder
) -> list[Item[Model]]:
    """Return the items of a list. A value that is no item, such as a bare name, is kept, flag ``value-unreadable``."""
    items = list(context.items(pointer, models))
    if len(items) < len(models) and (unreadable := unread(pointer, models, context.raw(pointer))):
        build.flag("value-unreadable", *unreadable)
    return items


def grouped(
    context: Context, pointer: str, groups: Sequence[Any], name: str, build: MappingBuilder
) -> Iterator[Item[Any]]:
    """Iterate over the items of the list ``name`` in every group of a list."""
    for group in readable(context, pointer, groups, build):
        yield from readable(context, f"{group.pointer}/{name}", getattr(group.model, name), build)


def identified(items: Iterable[Item[Model]], *names: str, build: MappingBuilder) -> Iterator[Item[Model]]:
    """Iterate over the items that have one of the fields ``names``. The others yield nothing, flag ``item-empty``."""
    for item in items:
        if any(getattr(item.model, name) for name in names):
            yield item
        else:
            build.flag("item-empty", item.pointer)
