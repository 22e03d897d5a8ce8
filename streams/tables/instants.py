"""Instants as databases take them."""

import re
from datetime import datetime, timedelta
from functools import lru_cache

_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:(?P<second>\d\d)(?P<rest>(?:\.\d+)?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d))", re.ASCII
)


_LONGEST_CACHED = 50
"""Length of the longest text that is cached: many long ones would fill the memory."""


def loaded_instant(text: str) -> str | None:
    """Return an instant as databases read it, None for another text. The second 60 becomes the next minute's first.

    Cached, because all resources of an event have the same few instants.
    """
    return (_recent if len(text) <= _LONGEST_CACHED else _loaded)(text)


def _loaded(text: str) -> str | None:
    if (match := _INSTANT.fullmatch(text)) is None:
        return None
    try:
        if match["second"] != "60":
            datetime.fromisoformat(text[:19])
            return text
        before = datetime.fromisoformat(f"{text[:17]}59")
        try:
            return (before + timedelta(seconds=1)).isoformat() + match["rest"]
        except OverflowError:  # no year has five digits
            return before.isoformat() + match["rest"]
    except ValueError:
        return None


def is_instant(text: str) -> bool:
    """Tell whether a text is a FHIR instant that the calendar has: date and time with seconds and zone."""
    return loaded_instant(text) is not None


_recent = lru_cache(maxsize=10_000)(_loaded)
