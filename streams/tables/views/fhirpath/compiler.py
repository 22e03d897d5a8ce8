"""The compiler of FHIRPath expressions to Python closures.

A compiled expression takes the items that it is evaluated on, and the scope, and returns a list. Elements are looked up
in the resource's JSON: what is missing, null or of another shape than the expression expects is an empty collection, as
is a primitive that has only extensions.

``value.ofType(Quantity)`` is the JSON's ``valueQuantity``. Behind an element that is no choice of types
(``contained.ofType(Medication)``) the function picks the resources of that type.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

from fhirline.streams.tables.views.fhirpath import values
from fhirline.streams.tables.views.fhirpath.boundaries import boundary, moment
from fhirline.streams.tables.views.fhirpath.functions import FUNCTIONS
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
from fhirline.streams.tables.views.fhirpath.values import Collection, single, truth


class Scope(NamedTuple):
    """What an expression sees besides its items: the resource, and the number of the row's element."""

    resource: Mapping[str, Any]
    row_index: int


Evaluate: TypeAlias = Callable[[Collection, Scope], Collection]

_ENVIRONMENT: Final[Mapping[str, Evaluate]] = {
    "rowIndex": lambda items, scope: [scope.row_index],
    "resource": lambda items, scope: [scope.resource],
    "rootResource": lambda items, scope: [scope.resource],
    "context": lambda items, scope: [scope.resource],
}
"""The variables that every expression has."""

_NOWHERE: Final = Scope({}, 0)

_MOMENTS: Final = frozenset({"dateTime", "instant"})

_PRIMITIVES: Final[Mapping[str, tuple[type, ...]]] = {
    "boolean": (bool,),
    "integer": (int,),
    "integer64": (int,),
    "positiveInt": (int,),
    "unsignedInt": (int,),
    "decimal": (int, float, Decimal),
}
"""Types of JSON's values by FHIR's primitive types. All other primitives are texts."""


def compile_fhirpath(text: str, constants: Mapping[str, Any], type: str | None = None) -> Evaluate:
    """Compile an expression. Raises FhirPathError.

    ``type`` is the FHIR type that the expression's result is to have, where it is known: the boundary of a date is a
    moment if a dateTime is wanted.
    """
    return _Compiler(constants, type).compile(parse(text))


def constant(value: Any) -> Evaluate:
    """Make an expression of a fixed value. Its list is shared: no expression changes what it is given."""
    items = [] if value is None else [value]
    return lambda _items, _scope: items


def _identity(items: Collection, scope: Scope) -> Collection:
    return items


def _elements(names: tuple[str, ...]) -> Evaluate:
    """Look elements up along a path."""

    def elements(items: Collection, scope: Scope) -> Collection:
        for name in names:
            found: Collection = []
            for item in items:
                if type(item) is dict and (value := item.get(name)) is not None:
                    if type(value) is list:
                        found.extend(value)
                    else:
                        found.append(value)
            if not found:
                return found
            items = found
        return [item for item in items if item is not None] if None in items else items

    return elements


def _of_type(type_name: str) -> Callable[[Any], bool]:
    """Tell whether an item, of an element that is no choice of types, is of a type, as far as JSON shows it."""
    if type_name[0].isupper():
        return lambda item: isinstance(item, dict) and item.get("resourceType", type_name) == type_name
    kinds = _PRIMITIVES.get(type_name, (str,))
    return lambda item: isinstance(item, kinds) and (bool in kinds or not isinstance(item, bool))


class _Compiler:
    def __init__(self, constants: Mapping[str, Any], wanted: str | None) -> None:
        self._constants = constants
        self._wanted = wanted

    def compile(self, expression: Expression) -> Evaluate:
        if isinstance(expression, Call) and expression.name in ("lowBoundary", "highBoundary"):
            return self._boundary(expression, self._wanted)
        return self._compile(expression)

    def _compile(self, expression: Expression | None) -> Evaluate:
        match expression:
            case None | This():
                return _identity
            case Literal(value):
                return constant(value)
            case Variable(name):
                return self._variable(name)
            case Member():
                return self._member(expression)
            case Index(base, position):
                return _index(self._compile(base), self._compile(position))
            case TypeOperation("is", base, type_name):
                return self._is(base, type_name)
            case TypeOperation(_, base, type_name):
                return self._as_type(base, type_name)
            case Operation():
                return self._operation(expression)
            case Call():
                return self._call(expression)

    def _variable(self, name: str) -> Evaluate:
        if name in _ENVIRONMENT:
            return _ENVIRONMENT[name]
        if name not in self._constants:
            known = ", ".join(f"%{known}" for known in (*self._constants, *_ENVIRONMENT))
            raise FhirPathError(f"%{name} is not defined; there are {known}")
        return constant(self._constants[name])

    def _member(self, expression: Member) -> Evaluate:
        names, base = [expression.name], expression.base
        while isinstance(base, Member):
            names.insert(0, base.name)
            base = base.base
        if base is None and names[0][0].isupper():  # Patient.name, on a Patient
            matches, rest = _of_type(names[0]), tuple(names[1:])
            follow = _elements(rest) if rest else _identity
            return lambda items, scope: follow([item for item in items if matches(item)], scope)
        follow = _elements(tuple(names))
        if base is None or isinstance(base, This):
            return follow
        evaluate = self._compile(base)
        return lambda items, scope: follow(evaluate(items, scope), scope)

    def _operation(self, expression: Operation) -> Evaluate:
        left, right = self._compile(expression.left), self._compile(expression.right)
        sign = expression.operator
        if sign in values.LOGIC:
            logic = values.LOGIC[sign]
            return lambda items, scope: logic(truth(left(items, scope)), lambda: truth(right(items, scope)))
        operation = values.OPERATIONS[sign]
        if self._is_fixed(expression.left) and self._is_fixed(expression.right):
            folded = operation(left([], _NOWHERE), right([], _NOWHERE))
            return lambda items, scope: folded
        return lambda items, scope: operation(left(items, scope), right(items, scope))

    def _is_fixed(self, expression: Expression) -> bool:
        """Tell whether an expression has the same value for all resources, so that it is computed once."""
        return isinstance(expression, Literal) or (
            isinstance(expression, Variable) and expression.name not in _ENVIRONMENT
        )

    def _is(self, base: Expression, type_name: str) -> Evaluate:
        evaluate, typed = self._compile(base), self._as_type(base, type_name)
        # The element's own name has no value where it is a choice of types: what another type has is not seen.
        return lambda items, scope: [bool(typed(items, scope))] if typed(items, scope) or evaluate(items, scope) else []

    def _as_type(self, base: Expression | None, type_name: str) -> Evaluate:
        type_name = type_name.removeprefix("FHIR.").removeprefix("System.")
        if type_name in ("Boolean", "String", "Integer", "Decimal"):
            type_name = type_name.lower()
        matches = _of_type(type_name)
        evaluate = self._compile(base)
        if not isinstance(base, Member):
            return lambda items, scope: [item for item in evaluate(items, scope) if matches(item)]
        parents = self._compile(base.base)
        chosen = _elements((base.name + type_name[0].upper() + type_name[1:],))
        named = _elements((base.name,))

        def of_type(items: Collection, scope: Scope) -> Collection:
            items = parents(items, scope)
            return chosen(items, scope) or [item for item in named(items, scope) if matches(item)]

        return of_type

    def _call(self, call: Call) -> Evaluate:
        special = _SPECIAL.get(call.name)
        if special is not None:
            least, most, method = special
            _check_arguments(call, least, most)
            return method(self, call)
        if call.name not in FUNCTIONS:
            names = ", ".join(sorted({*_SPECIAL, *FUNCTIONS}))
            raise FhirPathError(f"character {call.at + 1}: {call.name}() is not supported; there are {names}")
        least, most, function = FUNCTIONS[call.name]
        _check_arguments(call, least, most)
        base = self._compile(call.base)
        arguments = [self._compile(argument) for argument in call.arguments]
        if not arguments:
            return lambda items, scope: function(base(items, scope))
        # An argument is evaluated on the item that the whole expression is: `name.take(%n)`, not on each name.
        return lambda items, scope: function(base(items, scope), *(each(items, scope) for each in arguments))

    def _where(self, call: Call) -> Evaluate:
        base, criterion = self._compile(call.base), self._compile(call.arguments[0])
        return lambda items, scope: [item for item in base(items, scope) if truth(criterion([item], scope))]

    def _exists(self, call: Call) -> Evaluate:
        base = self._where(call) if call.arguments else self._compile(call.base)
        return lambda items, scope: [bool(base(items, scope))]

    def _all(self, call: Call) -> Evaluate:
        base, criterion = self._compile(call.base), self._compile(call.arguments[0])
        return lambda items, scope: [all(truth(criterion([item], scope)) for item in base(items, scope))]

    def _select(self, call: Call) -> Evaluate:
        base, project = self._compile(call.base), self._compile(call.arguments[0])
        return lambda items, scope: [found for item in base(items, scope) for found in project([item], scope)]

    def _repeat(self, call: Call) -> Evaluate:
        base, project = self._compile(call.base), self._compile(call.arguments[0])

        def repeat(items: Collection, scope: Scope) -> Collection:
            found: Collection = []
            waiting = base(items, scope)
            while waiting:
                waiting = [item for parent in waiting for item in project([parent], scope)]
                found.extend(waiting)
            return found

        return repeat

    def _iif(self, call: Call) -> Evaluate:
        base = self._compile(call.base)
        criterion, then = self._compile(call.arguments[0]), self._compile(call.arguments[1])
        otherwise = self._compile(call.arguments[2]) if len(call.arguments) > 2 else constant(None)

        def iif(items: Collection, scope: Scope) -> Collection:
            items = base(items, scope)
            return then(items, scope) if truth(criterion(items, scope)) else otherwise(items, scope)

        return iif

    def _typed(self, call: Call) -> Evaluate:
        typed = self._is if call.name == "is" else self._as_type
        return typed(call.base or This(), _type_name(call))

    def _extension(self, call: Call) -> Evaluate:
        base, url = call.base, self._compile(call.arguments[0])
        places = [self._compile(Member(base, "extension"))]
        if isinstance(base, Member):  # of a primitive: its companion `_status`
            places.append(self._compile(Member(Member(base.base, f"_{base.name}"), "extension")))

        def extension(items: Collection, scope: Scope) -> Collection:
            wanted = single(url(items, scope))
            return [
                item
                for place in places
                for item in place(items, scope)
                if isinstance(item, dict) and item.get("url") == wanted
            ]

        return extension

    def _reference_key(self, call: Call) -> Evaluate:
        base = self._compile(call.base)
        wanted = _type_name(call) if call.arguments else None

        def reference_key(items: Collection, scope: Scope) -> Collection:
            keys = []
            for item in base(items, scope):
                reference = item.get("reference") if isinstance(item, dict) else None
                if isinstance(reference, str):
                    type_name, slash, key = reference.split("/_history", 1)[0].rpartition("/")
                    if slash and (wanted is None or type_name.rpartition("/")[2] == wanted):
                        keys.append(key)
            return keys

        return reference_key

    def _boundary(self, call: Call, wanted: str | None = None) -> Evaluate:
        _check_arguments(call, 0, 0)
        if isinstance(call.base, Call) and call.base.name == "ofType":
            wanted = _type_name(call.base)
        base, high = self._compile(call.base), call.name == "highBoundary"
        find = moment if wanted in _MOMENTS else boundary

        def bounded(items: Collection, scope: Scope) -> Collection:
            found = find(single(base(items, scope)), high)
            return [] if found is None else [found]

        return bounded


def _index(base: Evaluate, position: Evaluate) -> Evaluate:
    def index(items: Collection, scope: Scope) -> Collection:
        found, at = base(items, scope), single(position(items, scope))
        return [found[at]] if type(at) is int and 0 <= at < len(found) else []

    return index


def _type_name(call: Call) -> str:
    """Return the type that an argument names: ``Quantity``, ``FHIR.Quantity`` or ``'Quantity'``."""
    match call.arguments[0]:
        case Member(None, name) | Member(Member(None, "FHIR" | "System"), name) | Literal(str(name)):
            return name
    raise FhirPathError(f"character {call.at + 1}: {call.name}() takes the name of a type, such as Quantity")


def _check_arguments(call: Call, least: int, most: int) -> None:
    if not least <= len(call.arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise FhirPathError(
            f"character {call.at + 1}: {call.name}() takes {wanted} arguments, not {len(call.arguments)}"
        )


_Method: TypeAlias = Callable[[_Compiler, Call], Evaluate]

_SPECIAL: Final[Mapping[str, tuple[int, int, _Method]]] = {
    "where": (1, 1, _Compiler._where),
    "exists": (0, 1, _Compiler._exists),
    "all": (1, 1, _Compiler._all),
    "select": (1, 1, _Compiler._select),
    "repeat": (1, 1, _Compiler._repeat),
    "iif": (2, 3, _Compiler._iif),
    "ofType": (1, 1, _Compiler._typed),
    "as": (1, 1, _Compiler._typed),
    "is": (1, 1, _Compiler._typed),
    "extension": (1, 1, _Compiler._extension),
    "getReferenceKey": (0, 1, _Compiler._reference_key),
    "lowBoundary": (0, 0, _Compiler._boundary),
    "highBoundary": (0, 0, _Compiler._boundary),
}
"""Functions whose arguments are no values: fewest and most arguments, and how each is compiled."""
