"""Counts of the words that no row of a code table has, and of the paths that no rule has (mapping.md §12, §6). Pure."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from fhirline.config.terminology import Terminology, norm
from fhirline.mappers.json_pointer import value_at
from fhirline.mappers.pipeline.envelope import Body
from fhirline.mappers.pipeline.normalize import Normalized

LONGEST = 60
MOST_PARTS = 6
"""Characters and parts of a word that is shown. Longer text is prose, which may be about a patient."""

_TERM = re.compile(r"[^\W_](?:[\w \-/().,'%+&°]*[\w).%°+])?")
_NUMBER = re.compile(r"\d{5}")
"""Digits that may be a date, a telephone number or an id."""


class Word(NamedTuple):
    """A word without a row: its spelling that was sent most often, and how often it was sent, in how many events."""

    table: str
    spelling: str
    times: int
    events: int


@dataclass(slots=True)
class Missing:
    """Words without a row and paths without a rule, counted over events.

    ``tables``: words per table. ``hidden``: those of them that are not shown, because they do not read like a term.
    ``drift``: events per path of `mappers.pipeline.schema_drift`.
    """

    terminology: Terminology
    events: int = 0
    tables: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    drift: Counter[str] = field(default_factory=Counter)
    _spellings: defaultdict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _in_events: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, result: Normalized, body: Body) -> None:
        """Count what is missing for one event. ``body``: the redacted body that ``result`` was made of."""
        self.events += 1
        self.drift.update(result.schema_drift)
        found: set[tuple[str, str]] = set()
        for table, pointer in result.unmapped_at:
            self.tables[table] += 1
            spelling = self._spelling(table, value_at(body, pointer))
            if spelling is None:
                self.hidden[table] += 1
            else:
                self._spellings[table, norm(spelling)][spelling] += 1
                found.add((table, norm(spelling)))
        self._in_events.update(found)

    def _spelling(self, table: str, value: object) -> str | None:
        """Return the word to show; None where another value was looked up, or it does not read like a term."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        spelling = " ".join(str(value).split())
        return spelling if reads_like_a_term(spelling) and self.terminology.row(table, spelling) is None else None

    def words(self) -> list[Word]:
        """List the words that may be shown, the most frequent first."""
        found = []
        for (table, key), spellings in self._spellings.items():
            spelling = min(spellings, key=lambda item: (-spellings[item], item))
            found.append(Word(table, spelling, spellings.total(), self._in_events[table, key]))
        return sorted(found, key=lambda word: (-word.times, word.table, word.spelling))


def reads_like_a_term(text: str) -> bool:
    """Return whether a vendor's word may be shown: a short term of a vocabulary, not prose, a number or an address.

    >>> [reads_like_a_term(word) for word in ("Four times daily", "tablespoon (10ml)", "in_progress", "à jeun")]
    [True, True, True, True]
    >>> [reads_like_a_term(word) for word in ("call 0612345678", "a@example.org", "see https://x.example.org")]
    [False, False, False]
    """
    return (
        len(text) <= LONGEST
        and len(text.split()) <= MOST_PARTS
        and _TERM.fullmatch(text) is not None
        and _NUMBER.search(text) is None
    )
