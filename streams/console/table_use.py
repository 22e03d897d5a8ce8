"""Count what a vendor's newest events have that is not mapped, and which rows of code tables they use."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fhirline.config.settings import Settings
from fhirline.config.terminology import SUFFIX, Row, Terminology, load_terminology
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.limits import TooComplex
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import vendor_mapping
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.terminology import raw
from fhirline.streams.operate.terminology.draft import drafts
from fhirline.streams.operate.terminology.missing import Missing, Word, reads_like_a_term

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
    """The tables of ``events`` events. ``passed_over``: events that are too large or complex to be mapped here.

    ``types``: events per event type that is not mapped, an empty one where its name does not read like a term.
    ``paths``: events per path that no rule has. Both have the most frequent first.
    """

    events: int = 0
    passed_over: int = 0
    types: list[tuple[str, int]] = field(default_factory=list)
    paths: list[tuple[str, int]] = field(default_factory=list)
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
    mapping, types = vendor_mapping(vendor), Counter[str]()
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
        type_ = mapping.event_type(envelope.body, envelope.route_event) or ""
        if type_ not in mapping.events:
            types[type_ if reads_like_a_term(type_) else ""] += 1
        hits.update(counting.found.keys())
        rows.update(counting.found)
        missing.add(result, envelope.body)
    use.events = missing.events
    use.types, use.paths = types.most_common(), missing.drift.most_common()
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
