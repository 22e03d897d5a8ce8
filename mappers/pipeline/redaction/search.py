"""The search for credentials in the texts of one body: in which parts of them, and in how much (mapping.md §7)."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fhirline.config.errors import FhirlineError

MOST = ((1_000, 1_000_000), (32_000, 1_000_000), (float("inf"), 2_000_000))
"""Longest text → characters of a body that are searched in texts up to that length.

A part of a text counts once for each form of a credential that may be in it. A body of megabytes that is made of the
names of passwords would take ten seconds; a long note counts as some ten thousand for each place that mentions one.
Each length has its own share, so that long texts use up nothing of short ones.
"""
_LOOKED_BACK = 20
"""Characters before a part in which a hint counts as well, since it may end where its match begins (``mysql``)."""


class SearchedTooMuch(FhirlineError):
    """A text may have a credential, but no more of its body is searched: the text is withheld as a whole."""


class Form(NamedTuple):
    """A form of credentials, and where in a text it is searched."""

    may_match: Callable[[str | bytes], bool]
    """Finds the form's hint. Each match contains one, or begins behind one."""
    pattern: re.Pattern[str]
    reach: int
    """Characters, at most, from the beginning of a match to its hint, and of its hint.

    Three times as many decide whether a match begins at a place. The match may be longer.
    """


class Search:
    """Counts the characters of one body that are searched."""

    def __init__(self) -> None:
        self._left = [most for _, most in MOST]

    def spend(self, text: str, characters: int) -> None:
        """Count a search of a part of a text. Raises SearchedTooMuch after too many characters."""
        kind = next(kind for kind, (longest, _) in enumerate(MOST) if len(text) <= longest)
        self._left[kind] -= characters
        if self._left[kind] < 0:
            raise SearchedTooMuch


def spans(text: str, form: Form, search: Search | None) -> Iterator[tuple[int, int]]:
    """Yield start and end of each match of a form, as `re.Pattern.finditer` would.

    Of a long text only what is near a hint is searched: a megabyte of prose would take a tenth of a second for each
    form. Raises SearchedTooMuch where ``search`` allows no more.
    """
    if not form.may_match(text):
        return
    done = 0
    for start, end in _parts_near_hints(text, form):
        needed = min(end + 3 * form.reach, len(text))
        if search:
            search.spend(text, needed - start)
        done = max(done, start)
        while near := form.pattern.search(text, done, needed):
            if near.start() >= end:
                break
            # With what is behind the part, the match may be longer, or be none.
            whole = near if needed == len(text) else form.pattern.match(text, near.start())
            done = whole.end() if whole else near.start() + 1
            if whole:
                yield whole.span()


def _parts_near_hints(text: str, form: Form) -> Iterator[tuple[int, int]]:
    """Yield start and end of the parts of a text in which matches may begin, in order, with gaps worth passing over."""
    nearby = 3 * form.reach
    if len(text) <= nearby:
        yield 0, len(text)
        return
    begin = end = 0
    for at in range(0, len(text), form.reach):
        if form.may_match(text[max(0, at - _LOOKED_BACK) : at + nearby]):
            if at - end > nearby:
                if end:
                    yield begin, end
                begin = at
            end = at + form.reach
    yield begin, min(end, len(text))
