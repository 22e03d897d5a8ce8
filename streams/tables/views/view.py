"""A view: the columns of an SQL table, and the rows that a resource has in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from fhirline.config.errors import FhirlineError

Row: TypeAlias = tuple[Any, ...]

RESOURCE_ID: Final = "resource_id"
"""The first column of every table: the id of the resource that a row is made of, by which its rows are deleted."""

ANY_RESOURCE: Final = "Resource"
"""FHIR's abstract type: a view of it has rows of resources of every type."""


class ViewFailed(FhirlineError):
    """A view does not fit a resource: several values in a column, say.

    The message is one line: view and column, resource, what is wrong, what to do. It contains no value.
    """


@dataclass(frozen=True)
class Column:
    """A column. ``path`` is the expression that fills it.

    ``type`` is a FHIR primitive type. Its values are str, but for boolean (bool), the integers (int), and decimal (int
    or float). With ``collection`` the value is a list of such; None is NULL everywhere. ``without_identities``: the
    rule by which the tables without identities show it; empty: they do not have it.
    """

    name: str
    type: str
    collection: bool = False
    description: str = ""
    path: str = ""
    without_identities: str = ""


@dataclass(frozen=True)
class Index:
    """An index that helps readers."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    """A foreign key for people to read: the database does not check it, since resources come in any order."""

    column: str
    view: str
    key: str


@dataclass(frozen=True)
class View:
    """A view, compiled. ``digest`` changes with whatever changes its rows or its table: the SHA-256, in hex digits."""

    name: str
    resource: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    description: str
    indexes: tuple[Index, ...]
    references: tuple[Reference, ...]
    digest: str
    _rows: Callable[[Mapping[str, Any]], list[Row]] = field(repr=False, compare=False)

    def has_rows_of(self, resource_type: str) -> bool:
        """Tell whether resources of a type may have rows."""
        return self.resource in (resource_type, ANY_RESOURCE)

    def rows(self, resource: Mapping[str, Any]) -> list[Row]:
        """Return a resource's rows: none for one of another type, or that the view's ``where`` leaves out.

        Raises ViewFailed.
        """
        return self._rows(resource)
