"""The JSON form of a view: SQL on FHIR's ViewDefinition, checked when it is read.

Unknown names are errors, because a misspelt ``forEach`` or ``where`` would give other rows without a word.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.views.fhirpath.scope import ENVIRONMENT
from fhirline.streams.tables.views.view import Column

SqlName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=63)]
"""Name of a table or a column; PostgreSQL cuts longer names."""

PREFIX: Final = "http://hl7.org/fhir/StructureDefinition/"

PRIMITIVES: Final = (
    "base64Binary boolean canonical code date dateTime decimal id instant integer integer64 markdown oid positiveInt "
    "string time unsignedInt uri url uuid"
).split()

JSON_TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "boolean": ((bool,), "true or false"),
    "decimal": ((int, float), "a number"),
    **dict.fromkeys(("integer", "integer64", "positiveInt", "unsignedInt"), ((int,), "a whole number")),
}
"""JSON types of a FHIR type's values, and their name in errors. All other types are texts."""

CONSTANTS: Final = {f"value{name[0].upper()}{name[1:]}": name for name in PRIMITIVES if name != "markdown"}


SYSTEM_COLUMNS: Final = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})
"""Columns that every table of PostgreSQL has of its own."""

WITHOUT_IDENTITIES: Final = "fhirline/without-identities"
"""Tag of a column: the rule by which the tables without identities show it."""


class _Element(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str | None = None
    extension: Any = None


class Tag(_Element):
    """Metadata of a column, such as ``fhirline/primary-key``."""

    name: str
    value: str


class ColumnDefinition(_Element):
    """A column, and the expression that fills it."""

    name: SqlName
    path: Annotated[str, Field(min_length=1)]
    description: str = ""
    collection: bool = False
    type: str | None = None
    tag: tuple[Tag, ...] = ()

    @model_validator(mode="after")
    def _has_primitive_type(self) -> "ColumnDefinition":
        if self.fhir_type not in PRIMITIVES:
            raise ValueError(
                f"type {self.type!r} is not supported: a column holds a primitive, one of {', '.join(PRIMITIVES)}"
            )
        return self

    @field_validator("name")
    @classmethod
    def _is_no_system_column(cls, name: str) -> str:
        if name.lower() in SYSTEM_COLUMNS:
            raise ValueError(f"{name} is a column that PostgreSQL gives every table; choose another name")
        return name

    @property
    def fhir_type(self) -> str:
        """Return the type by its name; that of a column which states none is string."""
        return (self.type or "string").removeprefix(PREFIX)

    def column(self, inferred: str | None) -> Column:
        """Return the column of the table."""
        rule = next((tag.value for tag in self.tag if tag.name == WITHOUT_IDENTITIES), "")
        return Column(self.name, inferred or self.fhir_type, self.collection, self.description, self.path, rule)


class Select(_Element):
    """Columns, nested selects and unions, for each element that an expression finds."""

    column: tuple[ColumnDefinition, ...] = ()
    select: tuple["Select", ...] = ()
    unionAll: tuple["Select", ...] = ()
    forEach: str | None = None
    forEachOrNull: str | None = None
    repeat: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _is_one_iteration(self) -> "Select":
        if sum(item is not None for item in (self.forEach, self.forEachOrNull, self.repeat)) > 1:
            raise ValueError("a select has one of forEach, forEachOrNull and repeat; nest another select for the next")
        if not (self.column or self.select or self.unionAll):
            raise ValueError("a select needs column, select or unionAll")
        return self

    def columns(self) -> Iterator[ColumnDefinition]:
        """Yield the columns in the order of the table. Those of a union are the first branch's."""
        yield from self.column
        for nested in (*self.select, *self.unionAll[:1]):
            yield from nested.columns()

    def all_columns(self) -> Iterator[ColumnDefinition]:
        """Yield the columns of all branches."""
        yield from self.column
        for nested in (*self.select, *self.unionAll):
            yield from nested.all_columns()

    def iterates(self) -> bool:
        """Tell whether the columns are those of elements, and not those of the select around it."""
        return self.forEach is not None or self.forEachOrNull is not None or self.repeat is not None

    def own_columns(self) -> Iterator[ColumnDefinition]:
        """Yield the columns of all branches that are evaluated on the resource, where the select is."""
        if not self.iterates():
            yield from self.column
            for nested in (*self.select, *self.unionAll):
                yield from nested.own_columns()

    def may_repeat(self) -> bool:
        """Tell whether an element may have several rows."""
        iterates = self.forEach or self.forEachOrNull or self.repeat or self.unionAll
        return bool(iterates) or any(nested.may_repeat() for nested in self.select)


class Where(_Element):
    """A condition for a resource to have rows."""

    path: Annotated[str, Field(min_length=1)]
    description: str = ""


class ViewDefinition(BaseModel):
    """A view as its file has it. The fields below ``where``, which every canonical resource has, are not used."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: SqlName | None = None
    resource: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]+$")]
    description: str = ""
    constant: tuple[Mapping[str, Any], ...] = ()
    select: Annotated[tuple[Select, ...], Field(min_length=1)]
    where: tuple[Where, ...] = ()

    resourceType: Annotated[str, StringConstraints(pattern=r"(^|/)ViewDefinition$")] = "ViewDefinition"
    status: Literal["draft", "active", "retired", "unknown"] = "active"
    profile: Any = None
    fhirVersion: Any = None
    id: Any = None
    meta: Any = None
    implicitRules: Any = None
    language: Any = None
    text: Any = None
    contained: Any = None
    extension: Any = None
    url: Any = None
    identifier: Any = None
    version: Any = None
    versionAlgorithmString: Any = None
    title: Any = None
    experimental: Any = None
    date: Any = None
    publisher: Any = None
    contact: Any = None
    useContext: Any = None
    jurisdiction: Any = None
    purpose: Any = None
    copyright: Any = None
    copyrightLabel: Any = None

    def columns(self) -> Iterator[ColumnDefinition]:
        """Yield the columns in the order of the table."""
        for select in self.select:
            yield from select.columns()

    def all_columns(self) -> Iterator[ColumnDefinition]:
        """Yield the columns of all branches of all unions."""
        for select in self.select:
            yield from select.all_columns()

    def has_one_row(self) -> bool:
        """Tell whether a resource has one row at most."""
        return not any(select.may_repeat() for select in self.select)

    def constants(self) -> dict[str, Any]:
        """Return the constants' values by name. Raises ConfigurationError."""
        found: dict[str, Any] = {}
        for number, constant in enumerate(self.constant):
            name = constant.get("name")
            values = [key for key in constant if key in CONSTANTS]
            if not isinstance(name, str) or len(values) != 1 or set(constant) != {"name", *values}:
                raise ConfigurationError(f"constant[{number}]: write a name and one value, such as valueString")
            if name in found:
                raise ConfigurationError(f"constant[{number}]: there are two constants {name}; rename one")
            if name in ENVIRONMENT:
                raise ConfigurationError(
                    f"constant[{number}].name: %{name} is a variable that every expression has; choose another name"
                )
            found[name] = _value(constant[values[0]], CONSTANTS[values[0]], f"constant[{number}].{values[0]}")
        return found


def _value(value: Any, type_name: str, place: str) -> Any:
    """Return a constant's value as resources have values of its type. Raises ConfigurationError."""
    if type_name == "integer64" and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
        return int(value)  # a text in JSON
    kinds, called = JSON_TYPES.get(type_name, ((str,), "a text"))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigurationError(f"{place}: must be {called}")
    return value
