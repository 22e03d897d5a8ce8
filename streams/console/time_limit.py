"""A limit of the time for which one visitor may use a thread that visitors share."""

import time
from collections.abc import Callable

from fhirline.config.errors import FhirlineError

SOURCES_SECONDS = 20.0
"""Seconds for the source of each element: a body is mapped more than once per value, so the effort grows by the square.

A consultation of 200 values takes two seconds.
"""
SOURCES_GIVEN_UP = (
    f"Finding the source of each element takes more than {SOURCES_SECONDS:.0f} seconds: the body has very many values, "
    "or very many events are before it on its partition. The page is shown without."
)


class TookTooLong(FhirlineError):
    """The time is over, or nobody waits for the answer any more."""


def time_limit(seconds: float, waited_for: Callable[[], bool] = lambda: True) -> Callable[[], None]:
    """Return the call that raises TookTooLong once the seconds are over, or ``waited_for`` returns False."""
    until = time.monotonic() + seconds

    def proceed() -> None:
        if time.monotonic() > until or not waited_for():
            raise TookTooLong

    return proceed
