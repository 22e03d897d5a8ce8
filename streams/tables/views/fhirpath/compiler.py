"""The compiler of FHIRPath expressions to Python closures.

A compiled expression takes the items that it is evaluated on, and the scope, and returns a list. Elements are looked up
in the resource's JSON: what is missing, null or of another shape than the expression expects is an empty collection, as
is a primitive that has only extensions.

``value.ofType(Quantity)`` is JSON's ``valueQuantity``, and ``value`` whatever type it has. Behind an element that is no
choice of types (``contained.ofType(Medication)``) ``ofType`` picks the resources of that type.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from fhirline.streams.tables.views.fhirpath import values
from fhirline.streams.tables.views.fhirpath.arguments import check_arguments, type_name
from fhirline.streams.tables.views.fhirpath.boundaries import boundary, moment
from fhirline.streams.tables.views.fhirpath.elements import CHOICES, elements, is_of_type
from fhirline.streams.tables.views.fhirpath.functions import FUNCTIONS, reference_keys
from fhirline.streams.tables.views.fhirpath.parser import parse
from fhirline.streams.tables.views.fhirpath.scope import ENVIRONMENT, NOWHERE, Evaluate, Scope, constant, identity
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

_MOMENTS: Final = frozenset({"dateTime", "instant"})


def compile_fhirpath(text: str, constants: Mapping[str, Any], type: str | None = None) -> Evaluate:
    """Compile an expression. Raises FhirPathError.

    ``type`` is the FHIR type that the expression's result is to have, where it is known: the boundary of a date is a
    moment if a dateTime is wanted.
    """
    return _Compiler(constants, type).compile(parse(text))


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
                return identity
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
        if name in ENVIRONMENT:
            return ENVIRONMENT[name]
        if name not in self._constants:
            known = ", ".join(f"%{known}" for known in (*self._constants, *ENVIRONMENT))
            raise FhirPathError(f"%{name} is not defined; there are {known}")
        return constant(self._constants[name])

    def _member(self, expression: Member) -> Evaluate:
        names, base = [expression.name], expression.base
        while isinstance(base, Member):
            names.insert(0, base.name)
            base = base.base
        if base is None and names[0][0].isupper():  # Patient.name, on a Patient
            matches, rest = is_of_type(names[0]), elements(tuple(names[1:]))
            return lambda items, scope: rest([item for item in items if matches(item)])
        follow = elements(tuple(names))
        if base is None or isinstance(base, This):
            return follow
        evaluate = self._compile(base)
        return lambda items, scope: follow(evaluate(items, scope))

    def _operation(self, expression: Operation) -> Evaluate:
        left, right = self._compile(expression.left), self._compile(expression.right)
        sign = expression.operator
        if sign in values.LOGIC:
            logic = values.LOGIC[sign]
            return lambda items, scope: logic(truth(left(items, scope)), lambda: truth(right(items, scope)))
        operation = values.OPERATIONS[sign]
        if self._is_fixed(expression.left) and self._is_fixed(expression.right):
            folded = operation(left([], NOWHERE), right([], NOWHERE))
            return lambda items, scope: folded
        return lambda items, scope: operation(left(items, scope), right(items, scope))

    def _is_fixed(self, expression: Expression) -> bool:
        """Tell whether an expression has the same value for all resources, so that it is computed once."""
        match expression:
            case Variable(name):
                return name not in ENVIRONMENT
            case Operation(sign, left, right):
                return sign in values.OPERATIONS and self._is_fixed(left) and self._is_fixed(right)
        return isinstance(expression, Literal)

    def _is(self, base: Expression, type_name: str) -> Evaluate:
        evaluate, typed = self._compile(base), self._as_type(base, type_name)
        return lambda items, scope: [bool(typed(items, scope))] if evaluate(items, scope) else []

    def _as_type(self, base: Expression | None, type_name: str) -> Evaluate:
        type_name = type_name.removeprefix("FHIR.").removeprefix("System.")
        if type_name in ("Boolean", "String", "Integer", "Decimal"):
            type_name = type_name.lower()
        matches = is_of_type(type_name)
        evaluate = self._compile(base)
        if not isinstance(base, Member):
            return lambda items, scope: [item for item in evaluate(items, scope) if matches(item)]
        parents = self._compile(base.base)
        chosen = elements((base.name + type_name[0].upper() + type_name[1:],))
        named = elements((base.name,), choices=frozenset())

        def of_type(items: Collection, scope: Scope) -> Collection:
            items = parents(items, scope)
            return chosen(items) or [item for item in named(items) if matches(item)]

        return of_type

    def _call(self, call: Call) -> Evaluate:
        special = _SPECIAL.get(call.name)
        if special is not None:
            least, most, method = special
            check_arguments(call, least, most)
            return method(self, call)
        if call.name not in FUNCTIONS:
            names = ", ".join(sorted(SUPPORTED_FUNCTIONS))
            raise FhirPathError(f"character {call.at + 1}: {call.name}() is not supported; there are {names}")
        least, most, function = FUNCTIONS[call.name]
        check_arguments(call, least, most)
        base = self._compile(call.base)
        arguments = [self._compile(argument) for argument in call.arguments]
        if not arguments:
            return lambda items, scope: function(base(items, scope))
        # An argument is evaluated on the item that the whole expression is: `name.take(%n)`, not on each name.
        return lambda items, scope: function(base(items, scope), *(argument(items, scope) for argument in arguments))

    def _where(self, call: Call) -> Evaluate:
        base, criterion = self._compile(call.base), self._compile(call.arguments[0])
        match call.arguments[0]:
            case Operation("=", Member(None, str(name)), fixed) if self._is_fixed(fixed) and name not in CHOICES:
                wanted = single(self._compile(fixed)([], NOWHERE))
                if isinstance(wanted, str):
                    return _where_text(base, name, wanted, criterion)
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
            found, seen = list[Any](), set[int]()
            waiting = [*base(items, scope)]
            while waiting:
                below = [item for parent in waiting for item in project([parent], scope)]
                waiting = []
                for item in below:
                    if not isinstance(item, dict):  # below a primitive is nothing
                        found.append(item)
                    elif id(item) not in seen:
                        seen.add(id(item))
                        found.append(item)
                        waiting.append(item)
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
        return typed(call.base or This(), type_name(call))

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
        wanted = type_name(call) if call.arguments else None

        return lambda items, scope: reference_keys(base(items, scope), wanted)

    def _boundary(self, call: Call, wanted: str | None = None) -> Evaluate:
        check_arguments(call, 0, 0)
        if isinstance(call.base, Call) and call.base.name == "ofType":
            wanted = type_name(call.base)
        base, high = self._compile(call.base), call.name == "highBoundary"
        find = moment if wanted in _MOMENTS else boundary

        def bounded(items: Collection, scope: Scope) -> Collection:
            found = find(single(base(items, scope)), high)
            return [] if found is None else [found]

        return bounded


def _where_text(base: Evaluate, name: str, wanted: str, criterion: Evaluate) -> Evaluate:
    """Pick the items whose element is a fixed text: by far the most frequent condition."""

    def where_text(items: Collection, scope: Scope) -> Collection:
        found = []
        for item in base(items, scope):
            if type(item) is dict:
                value = item.get(name)
                if value == wanted or (type(value) is list and truth(criterion([item], scope))):
                    found.append(item)
        return found

    return where_text


def _index(base: Evaluate, position: Evaluate) -> Evaluate:
    def index(items: Collection, scope: Scope) -> Collection:
        found, at = base(items, scope), single(position(items, scope))
        return [found[at]] if type(at) is int and 0 <= at < len(found) else []

    return index


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

SUPPORTED_FUNCTIONS: Final = frozenset({*_SPECIAL, *FUNCTIONS})
"""The names of all functions. docs/views.md lists them."""
