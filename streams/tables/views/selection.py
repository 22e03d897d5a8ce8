"""Compiles the selects of a ViewDefinition to a function that makes rows.

A select makes rows for each of its elements: its columns' values, joined with each row of its nested selects, joined
with each row of the branches of its union. Selects beside each other are joined in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any, Final, TypeAlias

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.instants import is_instant
from fhirline.streams.tables.views.definition import JSON_TYPES, ColumnDefinition, Select, ViewDefinition
from fhirline.streams.tables.views.fhirpath.compiler import compile_fhirpath
from fhirline.streams.tables.views.fhirpath.scope import Evaluate, Scope
from fhirline.streams.tables.views.fhirpath.syntax import FhirPathError
from fhirline.streams.tables.views.fhirpath.values import text
from fhirline.streams.tables.views.view import Row

Rows: TypeAlias = Callable[[Any, Scope], list[Row]]
"""The rows of one element."""


_WHOLE_BITS: Final = 63
"""Bits of a whole number in a database, besides its sign."""


def compile_rows(
    definition: ViewDefinition, constants: Mapping[str, Any], types: Mapping[str, str]
) -> Callable[[Mapping[str, Any]], list[Row]]:
    """Compile a view to a function from a resource, whatever its type, to its rows. ``types``: of untyped columns.

    Raises ConfigurationError, ``place: problem``. The function raises FhirPathError.
    """
    compiler = _Compiler(constants, types)
    conditions = [
        (f"where[{number}]", compiler.expression(where.path, f"where[{number}].path"))
        for number, where in enumerate(definition.where)
    ]
    rows = _product([compiler.select(item, f"select[{number}]") for number, item in enumerate(definition.select)])

    def rows_of(resource: Mapping[str, Any]) -> list[Row]:
        scope = Scope(resource, 0)
        for place, condition in conditions:
            held = condition([resource], scope)
            if held and (len(held) > 1 or type(held[0]) is not bool):
                raise FhirPathError(f"{place}: gives no boolean; end it with exists(), or compare it")
            if not held or not held[0]:
                return []
        return rows(resource, scope)

    return rows_of


class _Compiler:
    def __init__(self, constants: Mapping[str, Any], types: Mapping[str, str]) -> None:
        self._constants = constants
        self._types = types

    def expression(self, text: str, place: str, type: str | None = None) -> Evaluate:
        try:
            return compile_fhirpath(text, self._constants, type)
        except FhirPathError as error:
            raise ConfigurationError(f"{place}: FHIRPath {text!r}: {error}") from None
        except RecursionError:
            raise ConfigurationError(f"{place}: the expression is too long; split it") from None

    def select(self, select: Select, place: str) -> Rows:
        parts: list[Rows] = []
        if select.column:
            values = [self._column(item, f"{place}.column[{number}]") for number, item in enumerate(select.column)]
            parts.append(_columns(values))
        parts += [self.select(item, f"{place}.select[{number}]") for number, item in enumerate(select.select)]
        if select.unionAll:
            parts.append(self._union(select.unionAll, f"{place}.unionAll"))
        rows = _product(parts)
        if select.repeat is not None:
            paths = [self.expression(item, f"{place}.repeat[{number}]") for number, item in enumerate(select.repeat)]
            return _for_each(_repeated(paths), rows)
        if select.forEach is not None:
            return _for_each(self.expression(select.forEach, f"{place}.forEach"), rows)
        if select.forEachOrNull is not None:
            return _for_each(
                self.expression(select.forEachOrNull, f"{place}.forEachOrNull"), rows, self._blank(select, place)
            )
        return rows

    def _column(self, column: ColumnDefinition, place: str) -> Callable[[list[Any], Scope], Any]:
        fhir_type = self._types.get(column.name, column.fhir_type)
        evaluate = self.expression(column.path, f"{place}.path", fhir_type)
        kinds, called = JSON_TYPES.get(fhir_type, ((str,), "a text"))
        allows_boolean = bool in kinds
        is_untyped = column.type is None and column.name not in self._types

        def checked(value: Any) -> Any:
            if is_untyped and not isinstance(value, dict):
                return text(value)
            if isinstance(value, Decimal):
                value = int(value) if value == value.to_integral_value() else float(value)
            if not isinstance(value, kinds) or (value.__class__ is bool and not allows_boolean):
                raise FhirPathError(f"column {column.name}: its type needs {called}, but there is {_kind(value)}")
            if (unfit := _unfit(value, fhir_type)) is not None:
                raise FhirPathError(f"column {column.name}: {unfit}")
            return value

        def value_of(items: list[Any], scope: Scope) -> Any:
            try:
                found = evaluate(items, scope)
            except FhirPathError as error:
                raise FhirPathError(f"column {column.name}: {error}") from None
            if column.collection:
                return [checked(item) for item in found]
            if not found:
                return None
            if len(found) > 1:
                raise FhirPathError(
                    f"column {column.name}: {len(found)} values; take first(), join() them, unroll them by forEach, "
                    "or set collection"
                )
            return checked(found[0])

        return value_of

    def _blank(self, select: Select, place: str) -> Callable[[Scope], Row]:
        """Make the row where ``forEachOrNull`` finds nothing: NULL in all columns, those of nested selects too.

        Only columns of ``%rowIndex`` have a value, since this is row 0: they may be in the primary key.
        """
        values = [self._column(column, place) if "%rowIndex" in column.path else None for column in select.columns()]
        return lambda scope: tuple([None if value is None else value([], scope) for value in values])

    def _shape(self, column: ColumnDefinition) -> str:
        """Name what a column holds, as a database tells it apart."""
        fhir_type = self._types.get(column.name, column.fhir_type)
        shape = fhir_type if fhir_type == "instant" else JSON_TYPES.get(fhir_type, ((), "a text"))[1]
        return f"a list, each {shape}" if column.collection else shape

    def _union(self, branches: Sequence[Select], place: str) -> Rows:
        names = [[column.name for column in branch.columns()] for branch in branches]
        for number, other in enumerate(names):
            if other != names[0]:
                raise ConfigurationError(
                    f"{place}[{number}]: its columns are {', '.join(other)}, those of the first branch "
                    f"{', '.join(names[0])}; name the same columns in the same order"
                )
            for first, column in zip(branches[0].columns(), branches[number].columns(), strict=True):
                if self._shape(first) != self._shape(column):
                    raise ConfigurationError(
                        f"{place}[{number}]: column {column.name} is {self._shape(column)}, in the first branch "
                        f"{self._shape(first)}; give it the same type and collection in all branches"
                    )
        parts = [self.select(branch, f"{place}[{number}]") for number, branch in enumerate(branches)]
        return lambda element, scope: [row for part in parts for row in part(element, scope)]


def _columns(values: Sequence[Callable[[list[Any], Scope], Any]]) -> Rows:
    def columns(element: Any, scope: Scope) -> list[Row]:
        items = [element]
        return [tuple([value(items, scope) for value in values])]

    return columns


def _product(parts: Sequence[Rows]) -> Rows:
    """Join each row of a part with each row of the next."""
    if len(parts) == 1:
        return parts[0]
    first, others = parts[0], parts[1:]

    def product(element: Any, scope: Scope) -> list[Row]:
        rows = first(element, scope)
        for part in others:
            if not rows:
                return rows
            more = part(element, scope)
            rows = [row + other for row in rows for other in more]
        return rows

    return product


def _for_each(elements: Evaluate, rows: Rows, blank: Callable[[Scope], Row] | None = None) -> Rows:
    """Make the rows of each element. ``blank``: the row where there is none."""

    def for_each(element: Any, scope: Scope) -> list[Row]:
        resource = scope.resource
        found = elements([element], scope)
        if blank is not None and not found:
            return [blank(Scope(resource, 0))]
        return [row for number, item in enumerate(found) for row in rows(item, Scope(resource, number))]

    return for_each


def _repeated(paths: Sequence[Evaluate]) -> Evaluate:
    """Find elements below elements, each once and before those below it, without a recursion as deep as the resource.

    An element that a path finds again, as ``$this`` does, is not followed again.
    """

    def repeated(items: list[Any], scope: Scope) -> list[Any]:
        found: list[Any] = []
        waiting = [*reversed(items)]
        root, seen = len(waiting), set[int]()
        while waiting:
            item = waiting.pop()
            if root:
                root -= 1
            elif id(item) in seen:
                continue
            else:
                found.append(item)
                if isinstance(item, dict):
                    seen.add(id(item))
            if isinstance(item, dict):  # below a primitive is nothing
                waiting += reversed([below for path in paths for below in path([item], scope)])
        return found

    return repeated


def _unfit(value: Any, fhir_type: str) -> str | None:
    """Return why databases would refuse a value of the right type; None where they take it."""
    if fhir_type == "instant" and not is_instant(value):
        return "a value is no instant, which has a date, a time with seconds, and a zone; give it the type dateTime"
    if fhir_type == "decimal":
        try:
            return None if isfinite(value) else "a number is too large"
        except OverflowError:
            return "a number is too large"
    if isinstance(value, int) and value.bit_length() > _WHOLE_BITS:
        return "a whole number has more than 64 bits; give it the type decimal"
    return None


def _kind(value: Any) -> str:
    match value:
        case dict():
            return "an object: name one of its elements"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
    return "a text"
