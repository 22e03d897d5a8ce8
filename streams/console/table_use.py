"""How a vendor's newest events use the code tables: events per row, and the words that no row has."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fhirline.config.settings import Settings
from fhirline.config.terminology import SUFFIX, Row, Terminology, load_terminology
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.limits import TooComplex
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.terminology import raw
from fhirline.streams.operate.terminology.draft import drafts
from fhirline.streams.operate.terminology.missing import Missing, Word

NEWEST = 500
"""Events that are mapped, about two seconds' work."""
LARGEST = 262_144
"""Bytes of a raw record that is mapped."""


class TableUse(NamedTuple):
    """A table that the events' words were looked up in, or lack a row of.

    ``rows``: those that a word was found in, with the number of events, the most frequent first. ``unused``: number of
    the others. ``words``: without a row; ``hidden``: how often a word was sent that does not read like a term.
    ``draft``: a file with a row for each word.
    """

    name: str
    rows: list[tuple[Row, int]]
    unused: int
    words: list[Word]
    hidden: int
    draft: str


@dataclass(slots=True)
class Use:
    """The tables of ``events`` events. ``passed_over``: events that are too large or complex to be mapped here."""

    events: int = 0
    passed_over: int = 0
    tables: list[TableUse] = field(default_factory=list)


class _CountingTerminology(Terminology):
    """Remembers the rows that were found since they were last taken."""

    def __init__(self, counted: Terminology) -> None:
        super().__init__({name: counted.rows(name) for name in counted.names})
        self.found: dict[tuple[str, int], Row] = {}

    def row(self, table: str, words: str | None) -> Row | None:
        found = super().row(table, words)
        if found is not None:
            self.found[table, id(found)] = found
        return found


def table_use(settings: Settings, vendor: str) -> Use:
    """Map a vendor's newest events, and count. Raises KafkaAccessError, and ConfigurationError for a missing topic."""
    counting = _CountingTerminology(load_terminology(settings.terminology_dir))
    normalize = build_normalizer(settings.model_copy(update={"validation": "off"}))
    normalize = replace(normalize, terminology=counting)
    missing, use = Missing(counting), Use()
    hits: Counter[tuple[str, int]] = Counter()
    rows: dict[tuple[str, int], Row] = {}
    records = list(raw.newest(settings, vendor, NEWEST))
    small = [record for record in records if len(record.value or b"") <= LARGEST]
    use.passed_over = len(records) - len(small)
    for envelope in raw.envelopes(iter(small)):
        counting.found.clear()
        try:
            result = normalize(envelope, InMemoryState())
        except TooComplex:
            use.passed_over += 1
            continue
        hits.update(counting.found.keys())
        rows.update(counting.found)
        missing.add(result, envelope.body)
    use.events = missing.events
    words, source = missing.words(), f"{counted(missing.events, 'event')} of {vendor}"
    files = drafts(words, f"draft-of-{vendor}", source)
    for name in counting.names:
        used = [(rows[table, row], count) for (table, row), count in hits.most_common() if table == name]
        own = [word for word in words if word.table == name]
        hidden = missing.hidden[name]
        if used or own or hidden:
            every = {id(row) for row in counting.rows(name).values()}
            draft = files.get(f"{name}{SUFFIX}", "")
            use.tables.append(TableUse(name, used, len(every) - len(used), own, hidden, draft))
    return use
