"""Outcomes of purging the earlier versions of a deleted resource at the server, as state and metrics name them."""

PURGED, SUBMITTED, KEPT, OFF, NO_WAY, REFUSED = "purged", "submitted", "kept", "off", "no-way", "refused"
OUTCOMES = (PURGED, SUBMITTED, KEPT, OFF, NO_WAY, REFUSED)
"""The outcomes. ``submitted``: the server purges later, by itself. ``kept``: it accepted, and still shows the history.

``off``: the operator has switched purging off. ``no-way``: the profile knows none. In the state, ``refused`` has the
status of the answer behind it: ``refused-405``.
"""

DONE = frozenset({PURGED, SUBMITTED})


def refused(status: int) -> str:
    """Return the outcome of a purge that was answered with a status."""
    return f"{REFUSED}-{status}"


def outcome_of(history: str) -> str:
    """Return which of `OUTCOMES` a history is.

    >>> outcome_of("refused-405"), outcome_of("no-way")
    ('refused', 'no-way')
    """
    return REFUSED if history.startswith(f"{REFUSED}-") else history
