"""Rows from two readings. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fhirline.config.settings import Settings
from fhirline.config.vendors import Vendors
from fhirline.streams.deliver.stage import deliver_group
from fhirline.streams.kafka.records import RecordPosition, TopicPartition
from fhirline.streams.operate.deliveries.parked import Parked
from fhirline.streams.operate.status.groups import Group
from fhirline.streams.operate.status.reading import Ends, Reading
from fhirline.streams.operate.status.warehouse import TablesState
from fhirline.topics.declared import (
    BUNDLE,
    CONTRIBUTIONS,
    ENRICHED,
    Topic,
    dead_letter_topic,
    enriched_topic,
    raw_topic,
)

ALL = "all"
"""The vendor of a topic that all vendors share."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A topic's records, and its records per second between two readings. Both are None for a missing topic."""

    topic: str
    records: int | None
    rate: float | None


@dataclass(frozen=True, slots=True)
class Inflow:
    """The events of one raw topic, and one consumer group's lag on it. The contributions to Practitioners are one too.

    ``lag_most``: lag of the partition with the largest. ``age``: seconds since the last event's timestamp, negative if
    a clock is wrong. ``dead_letters``: open ones, None where there are too many to read. ``letters``: all of them.
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
class PartitionState:
    """A partition of a topic, the offset that a group reads next, and the records that it has yet to take.

    ``last_ms``: the latest timestamp in UNIX milliseconds. ``new``: records since an earlier reading; None without one.
    """

    partition: int
    first: int
    end: int
    next: int
    lag: int
    last_ms: int | None
    new: int | None

    @property
    def records(self) -> int:
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class Members:
    """A group, the number of partitions that it reads, and how many of them have no member."""

    group: Group
    partitions: int
    unassigned: int


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that is shown. ``bootstrap`` names the cluster. ``at``: UNIX seconds. ``exact``: see `Reading`."""

    bootstrap: str
    at: float
    inflows: tuple[Inflow, ...]
    canonical: tuple[Volume, ...]
    others: tuple[Volume, ...]
    members: tuple[Members, ...]
    exact: bool
    tables: TablesState | None = None
    parked: Parked | None = None
    """The Bundles that wait for the FHIR server; None where no server is set."""

    @property
    def lag(self) -> int | None:
        """Return the largest lag of the topics that are read; None where one is unknown, as that of a missing topic."""
        lags = [inflow.lag for inflow in self.inflows]
        known = [lag for lag in lags if lag is not None]
        return max(known, default=0) if len(known) == len(lags) else None

    def as_json(self) -> dict[str, Any]:
        """Make the JSON. Unknown figures are null."""
        return {
            "bootstrap": self.bootstrap,
            "at": self.at,
            "exact": self.exact,
            "delivery": self.parked and {"parkedPatients": self.parked.patients, "waitingBundles": self.parked.bundles},
            "inflows": [
                {
                    "vendor": inflow.vendor,
                    "topic": inflow.topic,
                    "group": inflow.group,
                    "records": inflow.records,
                    "recordsPerSecond": inflow.rate,
                    "lag": inflow.lag,
                    "lagOfLargestPartition": inflow.lag_most,
                    "secondsSinceLastEvent": inflow.age,
                    "openDeadLetters": inflow.dead_letters,
                    "deadLetterRecords": inflow.letters,
                }
                for inflow in self.inflows
            ],
            "groups": [
                {
                    "group": members.group.name,
                    "state": members.group.state,
                    "members": None if members.group.unnamed else members.group.members,
                    "partitions": members.partitions,
                    "partitionsWithoutMember": None if members.group.unnamed else members.unassigned,
                }
                for members in self.members
            ],
            "topics": [
                {"topic": volume.topic, "records": volume.records, "recordsPerSecond": volume.rate}
                for volume in (*self.canonical, *self.others)
            ],
            **({} if self.tables is None else {"tables": self.tables.as_json()}),
        }


@dataclass(frozen=True, slots=True)
class Source:
    """A topic, and a group that reads it."""

    vendor: str
    topic: str
    group: str


def sources_of(settings: Settings, vendors: Vendors) -> tuple[Source, ...]:
    """Return the topics that are read, with their groups.

    The enrichment is among them where a tenant has it, and the delivery where a FHIR server is set.
    """
    found = []
    for vendor in settings.vendors or vendors.names:
        found.append(Source(vendor, raw_topic(vendor), settings.group))
        if vendor in ENRICHED:
            found.append(Source(vendor, enriched_topic(vendor), settings.group))
            known = vendors[vendor]
            if known.defaults.enrichment or any(known.settings(tenant).enrichment for tenant in known.tenants):
                found.append(Source(vendor, raw_topic(vendor), f"{settings.group}.enrich"))
    found.append(Source(ALL, CONTRIBUTIONS, settings.group))
    if settings.fhir_server is not None:
        found.append(Source(ALL, BUNDLE, deliver_group(settings)))
    return tuple(found)


def summarize(
    bootstrap: str,
    topics: Iterable[Topic],
    sources: Iterable[Source],
    now: Reading,
    before: Reading | None,
    tables: TablesState | None = None,
) -> Status:
    """Summarize the reading ``now``. Rates need a reading ``before``."""
    sources = tuple(sources)
    shown = {source.topic for source in sources}
    volumes = [_volume(topic.name, now, before) for topic in topics]
    return Status(
        bootstrap,
        now.at,
        tuple(_inflow(source, now, before) for source in sources),
        tuple(volume for volume in volumes if volume.topic.startswith("fhir.r4.")),
        tuple(volume for volume in volumes if not volume.topic.startswith("fhir.r4.") and volume.topic not in shown),
        tuple(_members(group, sources, now) for group in now.groups.values()),
        now.exact,
        tables,
        now.parked,
    )


def _partitions(reading: Reading, topic: str) -> dict[TopicPartition, Ends]:
    return {partition: ends for partition, ends in reading.ends.items() if partition.topic == topic}


def _volume(topic: str, now: Reading, before: Reading | None) -> Volume:
    found = _partitions(now, topic)
    if not found:
        return Volume(topic, None, None)
    earlier = _partitions(before, topic) if before else {}
    rate = None
    if before is not None and earlier and now.seconds > before.seconds:
        new = sum(ends.end for ends in found.values()) - sum(ends.end for ends in earlier.values())
        rate = max(0, new) / (now.seconds - before.seconds)
    return Volume(topic, sum(ends.end - ends.first for ends in found.values()), rate)


def _inflow(source: Source, now: Reading, before: Reading | None) -> Inflow:
    found, volume = _partitions(now, source.topic), _volume(source.topic, now, before)
    lags = list(_lags(found, now.committed.get(source.group, {})))
    times = [ends.last_ms for ends in found.values() if ends.last_ms is not None]
    return Inflow(
        source.vendor,
        source.topic,
        source.group,
        volume.records,
        volume.rate,
        sum(lags) if found else None,
        max(lags) if found else None,
        now.at - max(times) / 1000 if times else None,
        0 if source.vendor == ALL else now.open_letters.get(source.vendor),
        _volume(dead_letter_topic(source.vendor), now, None).records or 0,
    )


def rate_of(topic: str, now: Reading, before: Reading | None) -> float | None:
    """Return a topic's records per second between two readings; None where there is no such topic or no earlier one."""
    return _volume(topic, now, before).rate


def partitions_of(reading: Reading, topic: str, group: str, before: Reading | None = None) -> list[PartitionState]:
    """Return the partitions of a topic that have records, as `Inflow` sums them up. ``new``: since ``before``."""
    found, committed = _partitions(reading, topic), reading.committed.get(group, {})
    earlier = _partitions(before, topic) if before else {}
    return [
        PartitionState(
            *(
                partition.partition,
                ends.first,
                ends.end,
                max(ends.first, committed.get(partition, 0)),
                lag,
                ends.last_ms,
            ),
            ends.end - (earlier[partition].end if partition in earlier else 0) if earlier else None,
        )
        for (partition, ends), lag in sorted(zip(found.items(), _lags(found, committed), strict=True))
        if ends.end > ends.first
    ]


def newest_of(reading: Reading, topic: str) -> RecordPosition | None:
    """Return the position of a topic's last record: of the partition with the latest timestamp."""
    times = {
        partition: ends.last_ms for partition, ends in _partitions(reading, topic).items() if ends.last_ms is not None
    }
    last = max(times, key=lambda partition: times[partition], default=None)
    return None if last is None else RecordPosition(*last, reading.ends[last].end - 1)


def members_of(reading: Reading, status: Status, group: str) -> list[tuple[TopicPartition, bool]]:
    """Return the partitions that a group reads, and whether a process of the group has each, as `Members` counts."""
    topics = {inflow.topic for inflow in status.inflows if inflow.group == group}
    assigned = reading.groups[group].assigned
    return [(partition, partition in assigned) for partition in sorted(reading.ends) if partition.topic in topics]


def _lags(found: Mapping[TopicPartition, Ends], committed: Mapping[TopicPartition, int]) -> Iterator[int]:
    """Return each partition's lag. A group that has never committed starts at the first record."""
    for partition, ends in found.items():
        yield max(0, ends.end - max(ends.first, committed.get(partition, 0)))


def _members(group: Group, sources: Iterable[Source], now: Reading) -> Members:
    topics = {source.topic for source in sources if source.group == group.name}
    partitions = {partition for partition in now.ends if partition.topic in topics}
    return Members(group, len(partitions), len(partitions - group.assigned))
