"""The tolerant reader: JSON as senders' programs write it, where the fast parser refuses it or changes a number.

It reads what the standard library reads (mapping.md §2.5): NaN and Infinity as null, a number that no double holds as
its digits, half a surrogate pair as U+FFFD, and each value of a key that is repeated. The flags name what was read so.
"""

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from fhirline.mappers.identity import decimal_text

NUMBER_AS_TEXT, NOT_A_NUMBER, TEXT_DAMAGED, NOT_STRICT, REPEATED_KEY = (
    "number-as-text",
    "not-a-number",
    "text-damaged",
    "json-not-strict",
    "repeated-key",
)
"""Flags (config/flags.yaml)."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_PLAIN_DIGITS = 18
"""An integer of so many digits fits 64 bits."""
_LEAST, _MOST = -(2**63), 2**64 - 1
_HELD_DIGITS = 17
"""Significant digits that a program writes of a double."""
_SMALLEST_NORMAL = 2.2250738585072014e-308
_LONGEST_PLAIN = 40
"""Digits up to which a whole number with an exponent is written without it."""


def parse(data: bytes, flags: set[str]) -> Any:
    """Parse UTF-8 JSON; add the flags of what strict JSON does not allow or a double does not hold.

    Raises UnicodeDecodeError, json.JSONDecodeError, and RecursionError for some 500 levels of nesting and more.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogatepass")  # surrogates as three bytes each: Java, Oracle and MySQL do that
        flags.add(NOT_STRICT)
    try:
        value = _decoder(flags, strict=True).decode(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Invalid control character"):
            raise
        value = _decoder(flags, strict=False).decode(text)
        flags.add(NOT_STRICT)
    if "\\u" in text or _SURROGATE.search(text):
        value = _repaired(value, flags)
    return value


def _decoder(flags: set[str], strict: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        strict=strict,
        object_pairs_hook=lambda members: _object(members, flags),
        parse_int=lambda digits: _integer(digits, flags),
        parse_float=lambda digits: number(digits, flags),
        parse_constant=_absent(flags),
    )


def _object(members: list[tuple[str, Any]], flags: set[str]) -> dict[str, Any]:
    """Make an object of its members. The last value of a repeated key keeps the key; others get ``key[repeated 1]``.

    >>> _object([("id", 1), ("id", 2), ("id", 2)], set())
    {'id': 2, 'id[repeated 1]': 1}
    """
    made = dict(members)
    if len(made) == len(members):
        return made
    counts: dict[str, int] = {}
    for key, value in members:
        if made[key] is value or _equal(made[key], value):
            continue
        flags.add(REPEATED_KEY)
        other = key
        while other in made:
            counts[key] = counts.get(key, 0) + 1
            other = f"{key}[repeated {counts[key]}]"
        made[other] = value
    return made


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are one in JSON: ``1`` and ``true`` are not."""
    return one.__class__ is other.__class__ and bool(one == other) and repr(one) == repr(other)


def _absent(flags: set[str]) -> Callable[[str], None]:
    return lambda _: flags.add(NOT_A_NUMBER)


def _integer(digits: str, flags: set[str]) -> int | float | str:
    if len(digits) <= _PLAIN_DIGITS or (len(digits) < 2 * _PLAIN_DIGITS and _LEAST <= int(digits) <= _MOST):
        return int(digits)
    return number(digits, flags)


def number(digits: str, flags: set[str]) -> float | str:
    """Read a JSON number as the double that holds it, else as text: the digits as sent, a whole number without ``.0``.

    >>> [number(digits, set()) for digits in ("36.6", "98.599999999999994", "18446744073709551616", "1e400")]
    [36.6, 98.6, '18446744073709551616', '1e400']
    """
    double = float(digits)
    exact: Decimal | None
    try:
        exact = Decimal(digits)
    except InvalidOperation:  # an exponent beyond the limits of Decimal
        exact = None
    if exact is not None and _holds(double, digits, exact):
        return double
    flags.add(NUMBER_AS_TEXT)
    if exact is not None and exact == exact.to_integral_value() and exact.adjusted() <= _LONGEST_PLAIN:
        return decimal_text(exact)
    return digits.lower()


def _holds(double: float, digits: str, exact: Decimal) -> bool:
    """Return whether a double is the number, or a fraction's digits are those that a program writes of the double."""
    if not math.isfinite(double) or (exact and abs(double) < _SMALLEST_NORMAL):
        return False
    if Decimal(repr(double)) == exact:
        return True
    if exact == exact.to_integral_value():
        return False
    significant = re.sub("[eE].*|[-.]", "", digits).strip("0")
    return len(significant) <= _HELD_DIGITS or Decimal(double) == exact


def _repaired(value: Any, flags: set[str]) -> Any:
    """Join surrogate pairs, and replace each half of one by U+FFFD, in keys and texts."""
    if isinstance(value, str):
        return _text(value, flags)
    if isinstance(value, list):
        return [_repaired(item, flags) for item in value]
    if isinstance(value, dict):
        return _object([(_text(key, flags), _repaired(item, flags)) for key, item in value.items()], flags)
    return value


def _text(text: str, flags: set[str]) -> str:
    if text.isascii() or not _SURROGATE.search(text):
        return text
    if not _PAIR.search(text):
        flags.add(TEXT_DAMAGED)
        return _SURROGATE.sub("\ufffd", text)
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if joined.count("\ufffd") > text.count("\ufffd"):
        flags.add(TEXT_DAMAGED)
    return joined
