"""The function that an expression is compiled to, and its arguments: items, the resource, the number of the element."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from fhirline.streams.tables.views.fhirpath.values import Collection


class Scope(NamedTuple):
    """The context of an expression, besides its items: the resource, and the number of the row's element."""

    resource: Mapping[str, Any]
    row_index: int


Evaluate: TypeAlias = Callable[[Collection, Scope], Collection]

ENVIRONMENT: Final[Mapping[str, Evaluate]] = {
    "rowIndex": lambda items, scope: [scope.row_index],
    "resource": lambda items, scope: [scope.resource],
    "rootResource": lambda items, scope: [scope.resource],
    "context": lambda items, scope: [scope.resource],
}
"""The variables that every expression has."""

NOWHERE: Final = Scope({}, 0)
"""The scope of expressions that have the same value everywhere."""


def constant(value: Any) -> Evaluate:
    """Make an expression of a fixed value. Its list is shared: no expression changes what it is given."""
    items = [] if value is None else [value]
    return lambda _items, _scope: items


def identity(items: Collection, scope: Scope) -> Collection:
    return items
