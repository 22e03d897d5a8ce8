"""Follows a view's expressions through the structures of FHIR R4: elements, types and cardinalities.

Importing it takes a second, because it loads R4's structures.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from fhirline.mappers.fhir.validation.structures import (
    ANY_RESOURCE,
    RESOURCE_TYPES,
)
from fhirline.streams.tables.views.definition import CONSTANTS, PRIMITIVES, ColumnDefinition, Select, ViewDefinition
from fhirline.streams.tables.views.fhirpath.parser import parse
from fhirline.streams.tables.views.fhirpath.syntax import (
    Call,
    Expression,
    FhirPathError,
    Index,
    Literal,
    Member,
    Operation,
    This,
    TypeOperation,
    Variable,
)
from fhirline.streams.tables.views.r4_elements import choices_of, fields_of

_BOOLEANS: Final = frozenset("= != < > <= >= in contains and or xor implies".split())
_WHOLE: Final = frozenset({"integer", "integer64", "positiveInt", "unsignedInt"})
_FUNCTIONS: Final = {
    **dict.fromkeys(
        "empty not isDistinct hasValue startsWith endsWith contains matches all exists is".split(), "boolean"
    ),
    **dict.fromkeys("count length indexOf toInteger".split(), "integer"),
    **dict.fromkeys("join split toString replace replaceMatches substring lower upper trim".split(), "string"),
    "toDecimal": "decimal",
    "getResourceKey": "id",
    "getReferenceKey": "id",
}
"""Types of the results of functions. Those of all others are the types of their input."""

_BOUNDARIES: Final = {"Period": "dateTime", **dict.fromkeys(_WHOLE, "decimal")}
"""Type → type of its boundaries, where that is another one."""

_SINGLE: Final = frozenset({"first", "last", "single", "join", "count", "empty", "exists", "all", "not", "hasValue"})
_SUBSETS: Final = frozenset({"where", "select", "all", "exists", "repeat", "iif"})
"""Functions whose arguments are evaluated on each item."""


@dataclass(frozen=True)
class Types:
    """Types that an expression may give: names of structures and primitives, None for unknown; ``many`` values."""

    names: frozenset[str] | None
    many: bool = False


_UNKNOWN: Final = Types(None)


class Inference:
    """The problems of a view, and the types of its columns."""

    def __init__(self, definition: ViewDefinition) -> None:
        self._definition = definition
        self.types: dict[str, frozenset[str] | None] = {}
        self._root = Types(frozenset({definition.resource}))
        self._constants = {
            constant.get("name"): next((CONSTANTS[key] for key in constant if key in CONSTANTS), "string")
            for constant in definition.constant
        }

    def findings(self) -> Iterator[str]:
        for number, where in enumerate(self._definition.where):
            yield from self._expression(where.path, self._root, f"where[{number}].path")
        for number, select in enumerate(self._definition.select):
            yield from self._select(select, self._root, f"select[{number}]")

    def _expression(self, text: str, context: Types, place: str) -> Iterator[str]:
        try:
            self.infer(parse(text), context)
        except (FhirPathError, RecursionError) as finding:
            yield f"{place}: {finding}"

    def _select(self, select: Select, context: Types, place: str) -> Iterator[str]:
        for name in ("forEach", "forEachOrNull"):
            if (path := getattr(select, name)) is not None:
                yield from self._expression(path, context, f"{place}.{name}")
                context = self._items(path, context)
        if select.repeat is not None:
            above, context = context, self._repeated(select.repeat, context)
            for number, path in enumerate(select.repeat):
                yield from self._expression(path, _united([above, context]), f"{place}.repeat[{number}]")
        for number, column in enumerate(select.column):
            yield from self._column(column, context, f"{place}.column[{number}]")
        for name, nested in (("select", select.select), ("unionAll", select.unionAll)):
            for number, item in enumerate(nested):
                yield from self._select(item, context, f"{place}.{name}[{number}]")

    def _items(self, path: str, context: Types) -> Types:
        """Return the types of the elements of a path, one at a time; unknown for a path that does not fit."""
        try:
            return Types(self.infer(parse(path), context).names)
        except (FhirPathError, RecursionError):
            return _UNKNOWN

    def _repeated(self, paths: Sequence[str], context: Types) -> Types:
        """Return the types of all elements that paths reach, however often they are followed."""
        found: Types = Types(frozenset())
        while True:
            above = _united([context, found])
            reached = [self._items(path, above) for path in paths]
            more = _united([found, *(item for item in reached if item.names is not None)])
            if more == found:
                return found if found.names else _UNKNOWN
            found = more

    def _column(self, column: ColumnDefinition, context: Types, place: str) -> Iterator[str]:
        try:
            found = self.infer(parse(column.path), context)
        except (FhirPathError, RecursionError) as finding:
            yield f"{place}.path: {finding}"
            return
        known = self.types.get(column.name, frozenset())
        self.types[column.name] = None if known is None or found.names is None else known | found.names
        wrong = sorted(name for name in found.names or () if not _fits(name, column))
        if wrong:
            yield f"{place}.type: the column is of type {column.fhir_type}, its values are of type {', '.join(wrong)}"
        if found.many and not column.collection:
            yield f"{place}.path: there may be several values: take first(), join() them, or unroll them by forEach"

    def infer(self, expression: Expression | None, context: Types) -> Types:
        """Return the types of an expression's values. Raises FhirPathError."""
        match expression:
            case None | This():
                return context
            case Literal(value):
                return Types(frozenset() if value is None else frozenset({_literal(value)}))
            case Variable("rowIndex"):
                return Types(frozenset({"integer"}))
            case Variable(name):
                return Types(frozenset({self._constants[name]})) if name in self._constants else self._root
            case Member(None, name) if name[0].isupper():
                if context.names is not None and name not in context.names:
                    raise FhirPathError(f"{name} is never what it is evaluated on; leave it out")
                return Types(frozenset({name}))
            case Member(base, name):
                return self._member(self.infer(base, context), name)
            case Index(base, position):
                self.infer(position, context)
                return Types(self.infer(base, context).names)
            case TypeOperation("is", base, _):
                self.infer(base, context)
                return Types(frozenset({"boolean"}))
            case TypeOperation(_, base, type_name):
                return self._of_type(base, type_name, context)
            case Operation(sign, left, right):
                found = self.infer(left, context), self.infer(right, context)
                if sign in _BOOLEANS:
                    return Types(frozenset({"boolean"}))
                if sign == "&":
                    return Types(frozenset({"string"}))
                if sign == "|":
                    return Types(_united(found).names, many=True)
                return Types(_computed(sign, _united(found).names))
            case Call():
                return self._call(expression, context)

    def _member(self, base: Types, name: str) -> Types:
        if base.names is None or ANY_RESOURCE in base.names or name == "resourceType":
            return Types(None if name != "resourceType" else frozenset({"code"}), base.many)
        found: set[str] = set()
        many, elements = base.many, set[str]()
        for structure_name in base.names:
            fields, chosen = fields_of(structure_name), choices_of(structure_name).get(name, ())
            elements |= {item.removeprefix("_") for item in fields} | choices_of(structure_name).keys()
            for field in (fields[item] for item in (name, *chosen) if item in fields):
                many = many or field.listed
                found.add(field.primitive or field.structure or "")
        if not found:
            near = get_close_matches(name, elements, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise FhirPathError(f"{' or '.join(sorted(base.names))} has no element {name}{hint}")
        return Types(frozenset(found), many)

    def _of_type(self, base: Expression | None, type_name: str, context: Types) -> Types:
        type_name = type_name.removeprefix("FHIR.").removeprefix("System.")
        found = self.infer(base, context)
        if found.names is None or ANY_RESOURCE in found.names:
            return Types(frozenset({type_name}), found.many)
        if type_name not in found.names:
            raise FhirPathError(
                f"ofType({type_name}) gives nothing here; there may be {', '.join(sorted(found.names))}"
            )
        return Types(frozenset({type_name}), found.many)

    def _call(self, call: Call, context: Types) -> Types:
        if call.name in ("ofType", "as"):
            [named] = call.arguments
            type_name = named.name if isinstance(named, Member) else str(getattr(named, "value", ""))
            return self._of_type(call.base, type_name, context)
        if call.name == "extension":
            self.infer(call.base, context)
            return Types(frozenset({"Extension"}), many=True)
        base = self.infer(call.base, context)
        if call.name in ("getReferenceKey", "is"):
            if call.name == "getReferenceKey" and base.names is not None and "Reference" not in base.names:
                raise FhirPathError(f"getReferenceKey() needs a Reference; here is {', '.join(sorted(base.names))}")
            return Types(frozenset({_FUNCTIONS[call.name]}), base.many)
        item = Types(base.names) if call.name in _SUBSETS else context
        arguments = [self.infer(argument, item) for argument in call.arguments]
        if call.name == "select":
            return Types(arguments[0].names, base.many or arguments[0].many)
        if call.name == "repeat":
            return Types(arguments[0].names, many=True)
        if call.name == "iif":
            return _united(arguments[1:])
        if call.name in ("union", "combine"):
            return Types(_united([base, *arguments]).names, many=True)
        if call.name in ("lowBoundary", "highBoundary") and base.names is not None:
            return Types(frozenset(_BOUNDARIES.get(name, name) for name in base.names))
        names_of_result = frozenset({_FUNCTIONS[call.name]}) if call.name in _FUNCTIONS else base.names
        return Types(names_of_result, (base.many and call.name not in _SINGLE) or call.name == "split")


def _computed(sign: str, names: frozenset[str] | None) -> frozenset[str] | None:
    """Return the types of what an arithmetic operator gives."""
    if sign == "div":
        return frozenset({"integer"})
    if names is None or not names <= {*_WHOLE, "decimal"}:
        return names
    return frozenset({"decimal" if sign == "/" or "decimal" in names else "integer"})


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "string" if isinstance(value, str) else "decimal"


def _united(types: Iterable[Types]) -> Types:
    """Return the types of a value that may be of any of some types."""
    listed = [*types]
    known = [item.names for item in listed if item.names is not None]
    names = frozenset[str]().union(*known) if len(known) == len(listed) else None
    return Types(names, any(item.many for item in listed))


def _fits(found: str, column: ColumnDefinition) -> bool:
    """Tell whether values of a type may stand in a column. One that states no type takes every primitive."""
    if column.type is None:
        return found[:1].islower()
    declared = column.fhir_type
    if found == declared:
        return True
    if declared == "decimal":
        return found in _WHOLE
    if declared in _WHOLE:
        return found in _WHOLE
    return declared != "boolean" and found != "boolean" and found not in {*_WHOLE, "decimal"} and found[:1].islower()


def inferred_types(definition: ViewDefinition) -> dict[str, str]:
    """Return the types of the columns that state none, as far as R4 tells one."""
    if definition.resource not in RESOURCE_TYPES:
        return {}
    inference = Inference(definition)
    [*inference.findings()]  # finds the types, too
    untyped = {column.name for column in definition.all_columns() if column.type is None}
    found = {name: next(iter(names)) for name, names in inference.types.items() if names and len(names) == 1}
    return {name: type_name for name, type_name in found.items() if name in untyped and type_name in PRIMITIVES}
