"""Filtering and grouping of cases. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from fhirline.mappers.instants import Instant
from fhirline.streams.operate.dead_letters.cases import Case, Status, shape


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on a case's last letter, which must all hold. An empty collection is no condition.

    ``paths``: JSON Pointers or FHIRPaths with ``*`` for any text. One of them must match one of the letter's failing
    paths, with its indexes or with ``*`` for each. ``since`` and ``until`` (exclusive): the event's receipt.
    """

    ids: Collection[str] = ()
    vendors: Collection[str] = ()
    tenants: Collection[str] = ()
    codes: Collection[str] = ()
    paths: Collection[str] = ()
    mapping_versions: Collection[str] = ()
    event_types: Collection[str] = ()
    statuses: Collection[Status] = ()
    since: Instant | None = None
    until: Instant | None = None

    def __call__(self, case: Case) -> bool:
        last = case.last
        conditions = (
            (self.ids, case.id),
            (self.vendors, last.vendor),
            (self.tenants, last.tenant),
            (self.codes, last.code),
            (self.mapping_versions, last.mapping_version),
            (self.event_types, last.event_type),
            (self.statuses, case.status),
        )
        return (
            all(value in wanted for wanted, value in conditions if wanted)
            and (not self.paths or any(_matches(path, self.paths) for path in last.paths))
            and (self.since is None or (last.received is not None and last.received >= self.since))
            and (self.until is None or (last.received is not None and last.received < self.until))
        )


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), form, re.DOTALL)
        for pattern in patterns
        for form in (path, shape(path))
    )


@dataclass(slots=True)
class Group:
    """Cases that failed in the same way. ``first`` and ``last``: times of receipt."""

    vendor: str
    code: str
    path: str
    mapping_version: str
    counts: Counter[Status] = field(default_factory=Counter)
    first: Instant | None = None
    last: Instant | None = None


def grouped(cases: Iterable[Case]) -> list[Group]:
    """Group cases by vendor, error code, path without indexes and mapping version, the largest group first."""
    collected: defaultdict[tuple[str, str, str, str], list[Case]] = defaultdict(list)
    for case in cases:
        last = case.last
        collected[last.vendor, last.code, shape(last.path), last.mapping_version].append(case)
    groups = []
    for key, members in collected.items():
        times = [case.last.received for case in members if case.last.received]
        counts = Counter(case.status for case in members)
        groups.append(Group(*key, counts, min(times, default=None), max(times, default=None)))
    return sorted(groups, key=lambda group: (-group.counts.total(), group.vendor, group.code, group.path))
