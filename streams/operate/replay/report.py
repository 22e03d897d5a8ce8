"""A whole comparison: every difference counted by resource type, and written to ``--diff-out``."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from fhirline.streams.operate.replay.codes import CodeChange
from fhirline.streams.operate.replay.compare import Comparison
from fhirline.streams.operate.replay.difference import DIFFERING, Difference, Kind

EXAMPLES = 3
"""Examples that are kept per resource type and kind; ``--diff-out`` has all."""

MOST_CODES = 1_000
"""Changes of codes that are counted one by one per resource type."""


@dataclass(slots=True)
class Tally:
    """The differences of one resource type, counted. ``more_codes``: changes of codes beyond `MOST_CODES`."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    examples: list[Difference] = field(default_factory=list)
    codes: Counter[CodeChange] = field(default_factory=Counter)
    more_codes: int = 0

    def add(self, difference: Difference) -> None:
        self.kinds[difference.kind] += 1
        if difference.kind in DIFFERING:
            self.paths.update(difference.paths)
            for change in difference.codes:
                if change in self.codes or len(self.codes) < MOST_CODES:
                    self.codes[change] += 1
                else:
                    self.more_codes += 1
            if sum(example.kind is difference.kind for example in self.examples) < EXAMPLES:
                self.examples.append(difference)


@dataclass(slots=True)
class Report:
    """A comparison by resource type."""

    types: dict[str, Tally] = field(default_factory=dict)

    def add(self, difference: Difference) -> None:
        self.types.setdefault(difference.resource_type, Tally()).add(difference)

    def add_unchanged(self, counts: Mapping[tuple[str, Kind], int]) -> None:
        for (resource_type, kind), count in counts.items():
            self.types.setdefault(resource_type, Tally()).kinds[kind] += count

    def total(self, kind: Kind) -> int:
        return sum(tally.kinds[kind] for tally in self.types.values())

    @property
    def differs(self) -> bool:
        return any(self.total(kind) for kind in DIFFERING)


def report(comparison: Comparison, tables_now: str, out: BinaryIO | None = None) -> Report:
    """Compare everything. ``out`` gets a line per difference. ``tables_now``: version of the tables of this run."""
    found = Report()

    def add(difference: Difference) -> None:
        found.add(difference)
        if out is not None and difference.kind in DIFFERING:
            out.write(difference.line(tables_now))

    for difference in comparison.described(comparison.candidates()):
        add(difference)
    for present in comparison.gone():
        was, tables_was = present.mapping_version, present.tables_version
        add(Difference(Kind.GONE, present.key, present.partition, present.raw, was, tables_was=tables_was))
    found.add_unchanged(comparison.unchanged)
    return found
