"""FHIRPath's rules about values: singletons, truth, equality, order, arithmetic.

FHIR's JSON gives no types to texts, so ``=`` compares texts as they are written. ``<``, ``>``, ``<=``, ``>=`` compare
two texts that are dates or times as FHIRPath does: ``2024-03-01T01:00:00+02:00`` is less than ``2024-03-01T00:00:00Z``,
and ``2024-03`` against ``2024-03-05`` has no answer. All other texts are compared as texts.
"""

import operator
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from fhirline.streams.tables.views.fhirpath.boundaries import spans
from fhirline.streams.tables.views.fhirpath.syntax import FhirPathError

Collection = list[Any]


def single(items: Collection) -> Any:
    """Return the only item, or None where there is none. Raises FhirPathError for several."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"{len(items)} values where one is allowed: take first(), or unroll them by forEach")
    return items[0]


def truth(items: Collection) -> bool | None:
    """Return FHIRPath's truth of a collection: a single item that is no boolean is true, nothing is unknown.

    >>> truth([False]), truth(["text"]), truth([])
    (False, True, None)
    """
    item = single(items)
    return item if item is None or type(item) is bool else True


def equal(left: Any, right: Any) -> bool:
    """Compare two items: ``true`` is not ``1``, but ``1`` is ``1.0``."""
    if type(left) is type(right):
        return bool(left == right)
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    return number(left) == number(right) if _is_number(left) and _is_number(right) else False


def equal_collections(left: Collection, right: Collection) -> Collection:
    if not left or not right:
        return []
    if len(left) != len(right):
        return [False]
    return [all(equal(one, other) for one, other in zip(left, right, strict=True))]


def contained(item: Any, items: Collection) -> bool:
    return any(equal(item, other) for other in items)


def distinct(items: Collection) -> Collection:
    found: Collection = []
    for item in items:
        if not contained(item, found):
            found.append(item)
    return found


def _is_number(item: Any) -> bool:
    return isinstance(item, (int, float, Decimal)) and not isinstance(item, bool)


def number(item: Any) -> int | Decimal:
    """Return a number to compute with, exactly as the JSON document has it."""
    if not _is_number(item):
        raise FhirPathError("a number is needed here")
    return Decimal(repr(item)) if isinstance(item, float) else item


def text(item: Any) -> str:
    """Return the text of an item, a number's as JSON writes it."""
    if isinstance(item, str):
        return item
    if isinstance(item, bool):
        return "true" if item else "false"
    if _is_number(item):
        return format(item, "f") if isinstance(item, Decimal) else repr(item)
    raise FhirPathError("a text is needed here, but there is an object: name one of its elements")


_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def compare(sign: str) -> Callable[[Collection, Collection], Collection]:
    """Return ``<``, ``>``, ``<=`` or ``>=`` over collections of at most one item."""
    order = _ORDERS[sign]

    def compared(left: Collection, right: Collection) -> Collection:
        one, other = single(left), single(right)
        if one is None or other is None:
            return []
        if isinstance(one, str) and isinstance(other, str):
            found = spans(one, other)
            if found is None:
                return [order(one, other)]
            (low, high), (other_low, other_high) = found
            answers = {order(low, other_high), order(high, other_low)}
            return [answers.pop()] if len(answers) == 1 else []
        return [order(number(one), number(other))]

    return compared


def _divide(left: int | Decimal, right: int | Decimal) -> Decimal | None:
    return Decimal(left) / Decimal(right) if right else None


def _whole(left: int | Decimal, right: int | Decimal) -> int | None:
    return int(Decimal(left) / Decimal(right)) if right else None


def _remainder(left: int | Decimal, right: int | Decimal) -> int | Decimal | None:
    if not right:
        return None
    rest = Decimal(left) % Decimal(right)
    return int(rest) if isinstance(left, int) and isinstance(right, int) else rest


_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "div": _whole,
    "mod": _remainder,
}


def compute(sign: str) -> Callable[[Collection, Collection], Collection]:
    """Return an arithmetic operator over collections of at most one item. A division by zero gives nothing."""
    operation = _ARITHMETIC[sign]

    def computed(left: Collection, right: Collection) -> Collection:
        one, other = single(left), single(right)
        if one is None or other is None:
            return []
        if sign == "+" and isinstance(one, str) and isinstance(other, str):
            return [one + other]
        try:
            result = operation(number(one), number(other))
        except InvalidOperation:  # a result of more digits than a Decimal has
            return []
        return [] if result is None else [result]

    return computed


def concatenate(left: Collection, right: Collection) -> Collection:
    """Join two texts as ``&`` does: nothing counts as an empty text."""
    return ["".join("" if item is None else text(item) for item in (single(left), single(right)))]


def _and(left: bool | None, right: Callable[[], bool | None]) -> Collection:
    if left is False or (other := right()) is False:
        return [False]
    return [True] if left and other else []


def _or(left: bool | None, right: Callable[[], bool | None]) -> Collection:
    if left or (other := right()):
        return [True]
    return [False] if left is False and other is False else []


def _xor(left: bool | None, right: Callable[[], bool | None]) -> Collection:
    other = right()
    return [] if left is None or other is None else [left is not other]


def _implies(left: bool | None, right: Callable[[], bool | None]) -> Collection:
    return _or(None if left is None else not left, right)


LOGIC: Final[Mapping[str, Callable[[bool | None, Callable[[], bool | None]], Collection]]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
}
"""Operators of three-valued logic. The right operand is evaluated only where it decides."""


def _negated(
    operation: Callable[[Collection, Collection], Collection],
) -> Callable[[Collection, Collection], Collection]:
    return lambda left, right: [not item for item in operation(left, right)]


def _member_of(left: Collection, right: Collection) -> Collection:
    item = single(left)
    return [] if item is None else [contained(item, right)]


OPERATIONS: Final[Mapping[str, Callable[[Collection, Collection], Collection]]] = {
    "=": equal_collections,
    "!=": _negated(equal_collections),
    "in": _member_of,
    "contains": lambda left, right: _member_of(right, left),
    "|": lambda left, right: distinct([*left, *right]),
    "&": concatenate,
    **{sign: compare(sign) for sign in _ORDERS},
    **{sign: compute(sign) for sign in _ARITHMETIC},
}
"""All other operators, over both operands' collections."""
