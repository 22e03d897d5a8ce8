"""The limits of the search for credentials in one body (mapping.md §7)."""

from fhirline.config.errors import FhirlineError

MOST = ((1_000, 4_000_000), (32_000, 4_000_000), (float("inf"), 8_000_000))
"""Longest text → characters of a body that are searched in texts up to that length.

A text counts once for each form of a credential that may be in it. A body of megabytes that is made of the names of
passwords would take ten seconds; a note of a megabyte that mentions one counts as some six million. Each length has its
own share, so that long texts use up nothing of short ones.
"""


class SearchedTooMuch(FhirlineError):
    """A text may have a credential, but no more of its body is searched: the text is withheld as a whole."""


class Search:
    """Counts the characters of one body that are searched."""

    def __init__(self) -> None:
        self._left = [most for _, most in MOST]

    def spend(self, text: str) -> None:
        """Count a search of a text. Raises SearchedTooMuch after too many characters."""
        kind = next(kind for kind, (longest, _) in enumerate(MOST) if len(text) <= longest)
        self._left[kind] -= len(text)
        if self._left[kind] < 0:
            raise SearchedTooMuch
