"""Alterations of an event for lineage: other values of the same form, and copies of a body with one place changed."""

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from datetime import date, timedelta
from itertools import count
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from fhirline.config.vendors import TenantSettings, Vendor, Vendors
from fhirline.mappers.identity import is_placeholder
from fhirline.mappers.json_pointer import escape
from fhirline.mappers.pipeline.envelope import Body
from fhirline.mappers.pipeline.lineage.compare import text_of

LEFT_OUT = object()
"""New value for `changed` that removes the key."""

YEAR = timedelta(weeks=52)

_DATE = re.compile(r"(\d{4})-\d{2}-\d{2}", re.ASCII)


def places(body: Body) -> Iterator[tuple[str, Any]]:
    """Yield (pointer, value) of every place below the body, containers included."""

    def below(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
        inner: Iterable[tuple[str, Any]] = ()
        if isinstance(value, dict):
            inner = ((escape(key), item) for key, item in value.items())
        elif isinstance(value, list):
            inner = ((str(position), item) for position, item in enumerate(value))
        for token, item in inner:
            yield f"{pointer}/{token}", item
            yield from below(item, f"{pointer}/{token}")

    return below(body, "")


def other_value(value: Any, taken: Set[str]) -> Any:
    """Return a value of the same form that is not among ``taken`` texts; None for blanks, nulls and containers."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return next(other for step in range(1, len(taken) + 2) if text_of(other := value + step) not in taken)
    if isinstance(value, float):
        return value / 2
    if not isinstance(value, str) or not value or value.isspace():
        return None
    if _DATE.match(value):
        return earlier(value)
    return next(text for text in _altered(value) if text not in taken and not is_placeholder(text))


def earlier(text: str) -> str:
    """Return a date or date-time 52 weeks earlier: the same weekday, and usually the same season and a possible time.

    >>> earlier("2024-02-29T10:00:00Z"), earlier("2024-02-31")
    ('2023-03-02T10:00:00Z', '2023-02-31')
    """
    try:
        return f"{date.fromisoformat(text[:10]) - YEAR}{text[10:]}"
    except (ValueError, OverflowError):
        return f"{max(int(text[:4]) - 1, 1):04}{text[4:]}"


def _altered(text: str) -> Iterator[str]:
    """Yield ``text`` with one letter or digit replaced by another of its kind, the last first, then with ``x`` added.

    Codes and addresses keep their form.
    """
    for position in range(len(text) - 1, -1, -1):
        found = text[position]
        kind = "0123456789" if found.isdecimal() else ascii_uppercase if found.isupper() else ascii_lowercase
        if found.isalnum():
            yield from (f"{text[:position]}{other}{text[position + 1 :]}" for other in kind if other != found)
    yield from (text + "x" * times for times in count(1))


def changed(value: Any, path: Sequence[str], new: Any) -> Any:
    """Return a copy of parsed JSON with ``new`` at the end of ``path`` (unescaped keys); other parts are shared.

    An item left out of a list becomes null, so that the items behind it keep their positions.
    """
    if not path:
        return None if new is LEFT_OUT else new
    key, *rest = path
    if isinstance(value, list):
        position = int(key)
        return [*value[:position], changed(value[position], rest, new), *value[position + 1 :]]
    if new is LEFT_OUT and not rest:
        return {name: item for name, item in value.items() if name != key}
    return {name: changed(item, rest, new) if name == key else item for name, item in value.items()}


def with_settings(vendors: Vendors, vendor: str, settings: TenantSettings, name: str | None = None) -> Vendors:
    """Return the vendors, one of them with other settings for every tenant, and with another name if given."""
    other = Vendor(name=name or vendors[vendor].name, defaults=settings, tenants={})
    return Vendors(vendors={**vendors.vendors, vendor: other})
