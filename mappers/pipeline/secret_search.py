"""The work of a search for credentials in one body, which is bounded (mapping.md §7)."""

MOST = ((1_000, 4_000_000), (32_000, 4_000_000), (float("inf"), 8_000_000))
"""For texts of so many characters at most: the characters that are searched in those of a body.

A text counts once for each form of a credential that may be in it. A body of megabytes that is made of the names of
passwords would take ten seconds; a note of a megabyte that mentions one counts as some six million. Long texts leave
short ones their share.
"""


class SearchedTooMuch(Exception):
    """A text may have a credential, but no more of its body is searched: the text is withheld as a whole."""


class Search:
    """What is left of the search of one body."""

    def __init__(self) -> None:
        self._left = [most for _, most in MOST]

    def spend(self, text: str) -> None:
        """Count a look at a text; raise SearchedTooMuch where there were too many."""
        kind = next(kind for kind, (longest, _) in enumerate(MOST) if len(text) <= longest)
        self._left[kind] -= len(text)
        if self._left[kind] < 0:
            raise SearchedTooMuch
