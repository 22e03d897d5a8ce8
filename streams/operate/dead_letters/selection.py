"""Which cases are meant, and how they are counted. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from fhirline.mappers.instants import Instant
from fhirline.streams.operate.dead_letters.cases import Case, Status, shape


@dataclass(frozen=True, slots=True)
class Filter:
    """What all of a case's last letter must be; an empty collection asks nothing.

    ``paths``: JSON Pointers or FHIRPaths, ``*`` for anything; one of the letter's failing paths must be meant, with its
    indexes or without (``*``). ``since`` and ``until`` (exclusive) are about the event's receipt.
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
        asked = (
            (self.ids, case.id),
            (self.vendors, last.vendor),
            (self.tenants, last.tenant),
            (self.codes, last.code),
            (self.mapping_versions, last.mapping_version),
            (self.event_types, last.event_type),
            (self.statuses, case.status),
        )
        return (
            all(value in wanted for wanted, value in asked if wanted)
            and (not self.paths or any(_meant(path, self.paths) for path in last.paths))
            and (self.since is None or (last.received is not None and last.received >= self.since))
            and (self.until is None or (last.received is not None and last.received < self.until))
        )


def _meant(path: str, patterns: Iterable[str]) -> bool:
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), each, re.DOTALL)
        for pattern in patterns
        for each in (path, shape(path))
    )


@dataclass(slots=True)
class Group:
    """Cases that have failed alike. ``first`` and ``last`` are receipts of events."""

    vendor: str
    code: str
    path: str
    mapping_version: str
    counts: Counter[Status] = field(default_factory=Counter)
    first: Instant | None = None
    last: Instant | None = None


def grouped(cases: Iterable[Case]) -> list[Group]:
    """By vendor, error code, path without its indexes and mapping version; the largest first."""
    collected: defaultdict[tuple[str, str, str, str], list[Case]] = defaultdict(list)
    for case in cases:
        last = case.last
        collected[last.vendor, last.code, shape(last.path), last.mapping_version].append(case)
    groups = []
    for key, members in collected.items():
        times = [each.last.received for each in members if each.last.received]
        counts = Counter(each.status for each in members)
        groups.append(Group(*key, counts, min(times, default=None), max(times, default=None)))
    return sorted(groups, key=lambda each: (-each.counts.total(), each.vendor, each.code, each.path))
