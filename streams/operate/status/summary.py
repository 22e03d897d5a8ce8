"""Readings into rows. Pure: what a row says depends on two readings and nothing else."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fhirline.config.settings import Settings
from fhirline.config.vendors import Vendors
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.operate.status.groups import Group
from fhirline.streams.operate.status.reading import Ends, Reading
from fhirline.topics.declared import ENRICHED, Topic, dead_letter_topic, enriched_topic, raw_topic


@dataclass(frozen=True, slots=True)
class Volume:
    """One topic: records it holds, and how many a second came between two readings; both None where it is missing."""

    topic: str
    records: int | None
    rate: float | None


@dataclass(frozen=True, slots=True)
class Inflow:
    """What comes in on one raw topic, and what of it one consumer group has not committed yet.

    ``lag_most``: of the partition that has most. ``age``: seconds since the last event's timestamp, below 0 where a
    clock is wrong. ``dead_letters``: those open; None where they are too many to tell, then ``letters`` says how many
    there are in all.
    """

    vendor: str
    topic: str
    group: str
    records: int | None
    rate: float | None
    lag: int | None
    lag_most: int | None
    age: float | None
    dead_letters: int | None
    letters: int


@dataclass(frozen=True, slots=True)
class Members:
    """A group: how many processes are in it, and which partitions of what it reads nobody has."""

    group: Group
    partitions: int
    unassigned: int


@dataclass(frozen=True, slots=True)
class Status:
    """What is shown. ``bootstrap`` names the cluster; ``at`` is UNIX seconds; ``exact``: see `Reading`."""

    bootstrap: str
    at: float
    inflows: tuple[Inflow, ...]
    canonical: tuple[Volume, ...]
    others: tuple[Volume, ...]
    members: tuple[Members, ...]
    exact: bool

    @property
    def lag(self) -> int | None:
        """The largest lag of a raw topic; None where one is not known, as of a missing topic."""
        lags = [each.lag for each in self.inflows]
        known = [each for each in lags if each is not None]
        return max(known, default=0) if len(known) == len(lags) else None

    def as_json(self) -> dict[str, Any]:
        """For machines; figures that are not known are null."""
        return {
            "bootstrap": self.bootstrap,
            "at": self.at,
            "exact": self.exact,
            "inflows": [
                {
                    "vendor": each.vendor,
                    "topic": each.topic,
                    "group": each.group,
                    "records": each.records,
                    "recordsPerSecond": each.rate,
                    "lag": each.lag,
                    "lagOfLargestPartition": each.lag_most,
                    "secondsSinceLastEvent": each.age,
                    "openDeadLetters": each.dead_letters,
                    "deadLetterRecords": each.letters,
                }
                for each in self.inflows
            ],
            "groups": [
                {
                    "group": each.group.name,
                    "state": each.group.state,
                    "members": each.group.members,
                    "partitions": each.partitions,
                    "partitionsWithoutMember": each.unassigned,
                }
                for each in self.members
            ],
            "topics": [
                {"topic": each.topic, "records": each.records, "recordsPerSecond": each.rate}
                for each in (*self.canonical, *self.others)
            ],
        }


@dataclass(frozen=True, slots=True)
class Source:
    """A raw topic and a group that reads it."""

    vendor: str
    topic: str
    group: str


def sources_of(settings: Settings, vendors: Vendors) -> tuple[Source, ...]:
    """Every raw topic of the vendors that workers read, and by which group; the enrichment's where a tenant has it."""
    found = []
    for vendor in settings.vendors or vendors.names:
        found.append(Source(vendor, raw_topic(vendor), settings.group))
        if vendor in ENRICHED:
            found.append(Source(vendor, enriched_topic(vendor), settings.group))
            known = vendors[vendor]
            if known.defaults.enrichment or any(known.settings(each).enrichment for each in known.tenants):
                found.append(Source(vendor, raw_topic(vendor), f"{settings.group}.enrich"))
    return tuple(found)


def summarize(
    bootstrap: str, topics: Iterable[Topic], sources: Iterable[Source], now: Reading, before: Reading | None
) -> Status:
    """The rows of ``now``; rates need a reading ``before``."""
    sources = tuple(sources)
    raw = {each.topic for each in sources}
    volumes = [_volume(topic.name, now, before) for topic in topics]
    return Status(
        bootstrap,
        now.at,
        tuple(_inflow(each, now, before) for each in sources),
        tuple(each for each in volumes if each.topic.startswith("fhir.r4.")),
        tuple(each for each in volumes if not each.topic.startswith("fhir.r4.") and each.topic not in raw),
        tuple(_members(group, sources, now) for group in now.groups.values()),
        now.exact,
    )


def _partitions(reading: Reading, topic: str) -> dict[TopicPartition, Ends]:
    return {place: each for place, each in reading.ends.items() if place[0] == topic}


def _volume(topic: str, now: Reading, before: Reading | None) -> Volume:
    found = _partitions(now, topic)
    if not found:
        return Volume(topic, None, None)
    earlier = _partitions(before, topic) if before else {}
    rate = None
    if before is not None and earlier and now.seconds > before.seconds:
        came = sum(each.end for each in found.values()) - sum(each.end for each in earlier.values())
        rate = max(0, came) / (now.seconds - before.seconds)
    return Volume(topic, sum(each.end - each.first for each in found.values()), rate)


def _inflow(source: Source, now: Reading, before: Reading | None) -> Inflow:
    found, volume = _partitions(now, source.topic), _volume(source.topic, now, before)
    lags = list(_lags(found, now.committed.get(source.group, {})))
    times = [each.last_ms for each in found.values() if each.last_ms is not None]
    return Inflow(
        source.vendor,
        source.topic,
        source.group,
        volume.records,
        volume.rate,
        sum(lags) if found else None,
        max(lags) if found else None,
        now.at - max(times) / 1000 if times else None,
        now.open_letters.get(source.vendor),
        _volume(dead_letter_topic(source.vendor), now, None).records or 0,
    )


def _lags(found: Mapping[TopicPartition, Ends], committed: Mapping[TopicPartition, int]) -> Iterator[int]:
    """Of each partition; a group that has never committed begins at the first record."""
    for place, each in found.items():
        yield max(0, each.end - max(each.first, committed.get(place, 0)))


def _members(group: Group, sources: Iterable[Source], now: Reading) -> Members:
    reads = {each.topic for each in sources if each.group == group.name}
    places = {place for place in now.ends if place[0] in reads}
    return Members(group, len(places), len(places - group.assigned))
