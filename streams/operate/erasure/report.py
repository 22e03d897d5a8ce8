"""The report of an erasure: counts and offsets of what was done and of what remains.

Keys of resources are in the exported file only.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.erasure import server
from fhirline.streams.operate.erasure.found import Remains
from fhirline.streams.operate.replay import patient
from fhirline.topics.declared import FOREVER

WHY = {
    "raw": "events as received; Kafka cannot delete single records of such a topic",
    "dead-letter": "dead letters contain their events; Kafka cannot delete single records of such a topic",
    "fhir": "Bundles that were published before; their readers also get the DELETE Bundle",
    "normalizer": "outcomes: paths and codes, no values of the patient",
}
"""First part of a topic's name → why its records remain."""

INDEFINITELY = "retained indefinitely"


@dataclass(frozen=True, slots=True)
class Remaining:
    """Records of the patient in one partition that remain until the topic's retention ends."""

    topic: str
    partition: int
    records: int
    first_offset: int
    last_offset: int
    until: str
    """RFC 3339 date, or `INDEFINITELY`. Kafka deletes whole segments, so it may be a segment's time later."""

    @property
    def why(self) -> str:
        return WHY[self.topic.partition(".")[0]]


@dataclass(slots=True)
class Report:
    """The result of one run. ``digest`` identifies the patient, whose key is not in the report.

    The fields' names are those of the exported JSON. ``tombstones``: resource type → number of keys. ``found_by``: way
    → number of keys. ``looks``: number of searches; ``left``: records that the last one found, and keys of the
    patient's events that came so late that they are not blocked yet.
    """

    vendor: str
    tenant: str
    digest: str
    blocked_at: str = ""
    blocks: int = 0
    tombstones: Counter[str] = field(default_factory=Counter)
    found_by: Counter[str] = field(default_factory=Counter)
    state: int = 0
    outcomes: int = 0
    """Events for whose OperationOutcome a null value was written, by which tables lose its rows."""
    bundles: int = 0
    looks: int = 0
    left: int = 0
    data_keys: int | None = None
    """Data keys that were destroyed; None without encryption."""
    data_keys_wrapped_by: list[str] = field(default_factory=list)
    """Ids of the key-encryption keys that they were wrapped by, of those that this process has."""
    key_encryption_keys_gone: list[str] = field(default_factory=list)
    """Ids of those that they were wrapped by and that are not among the secrets of this process."""
    remaining: tuple[Remaining, ...] = ()
    unreadable: tuple[Remaining, ...] = ()
    """Encrypted records that remain, too, whose data keys are destroyed."""
    keys: list[str] = field(default_factory=list)
    server: Counter[str] = field(default_factory=Counter)
    """Count the resources at the FHIR server by the outcome that ``fhirline deliver`` has noted."""
    server_asked: bool = True
    """True if the topics named any resource of the patient, by which the server's could be counted."""
    replays: list[patient.HeldByRun] = field(default_factory=list)
    """Counts of the resources that unfinished replays hold in clear in this machine's ``FHIRLINE_REPLAY_DIR``."""

    @property
    def complete(self) -> bool:
        return self.left == 0

    def document(self) -> dict[str, Any]:
        """Make the exported JSON. It has the keys, by which consumers can find their own copies."""
        return {
            **asdict(self),
            "complete": self.complete,
            "tombstones": dict(self.tombstones),
            "found_by": dict(self.found_by),
            "server": dict(self.server),
            "keys": sorted(self.keys),
            "remaining": [{**asdict(remains), "why": remains.why} for remains in self.remaining],
            "unreadable": [asdict(remains) for remains in self.unreadable],
        }


def remaining(found: Mapping[TopicPartition, Remains], retention: Mapping[str, int | None]) -> tuple[Remaining, ...]:
    """List what remains, and until when. ``retention``: topic → ``retention.ms``, None where it is unknown."""
    return tuple(
        Remaining(
            topic,
            partition,
            remains.records,
            remains.first_offset,
            remains.last_offset,
            _until(remains.newest_ms, retention.get(topic)),
        )
        for (topic, partition), remains in sorted(found.items())
    )


def _until(newest_ms: int, retention: int | None) -> str:
    if retention is None:
        return "the end of the topic's retention, which this broker does not report"
    if retention == FOREVER:
        return INDEFINITELY
    try:
        return datetime.fromtimestamp((newest_ms + retention) / 1000, UTC).date().isoformat()
    except (OverflowError, ValueError):
        return INDEFINITELY


def lines(report: Report, compaction_days: int) -> Iterator[str]:
    """Write the report as lines of text."""
    by_type = ", ".join(f"{count} {name}" for name, count in sorted(report.tombstones.items())) or "none"
    by_way = ", ".join(f"{count} by {way}" for way, count in sorted(report.found_by.items())) or "nothing"
    blocks = counted(report.blocks, "keyed hash", "keyed hashes")
    yield f"blocked since     {report.blocked_at} ({blocks} in normalizer.erased)"
    yield f"tombstones        {report.tombstones.total()} ({by_type})"
    yield f"found             {by_way}"
    yield f"state             {counted(report.state, 'entry', 'entries')} deleted"
    events = counted(report.outcomes, "event")
    yield f"outcomes          of {events} deleted for tables; the topic keeps them until its retention ends"
    provenance = ", and a Provenance of the erasure that does not name the patient" if report.bundles else ""
    yield f"DELETE Bundles    {report.bundles}{provenance}"
    yield f"searched again    {counted(report.looks, 'time')}; found at last: {report.left}"
    yield from server.lines(report.server, report.server_asked)
    yield from patient.lines(report.replays)
    if report.data_keys is not None:
        done = "destroyed: encrypted events can be read no more" if report.data_keys else "found that are not destroyed"
        yield f"data keys         {report.data_keys} {done}"
    if report.data_keys_wrapped_by:
        keks = ", ".join(report.data_keys_wrapped_by)
        are = "is" if len(report.data_keys_wrapped_by) == 1 else "are"
        within = counted(compaction_days, "day")
        yield (
            f"                  their wrapped values leave normalizer.keys within {within}, as replaced "
            f"values do, and are of no use once {keks} {are} destroyed: fhirline keys rotate, rewrap, destroy-old"
        )
    if report.key_encryption_keys_gone:
        keks = ", ".join(report.key_encryption_keys_gone)
        if report.data_keys_wrapped_by:  # after a rotation, until compaction has removed the older values
            then = "They were wrapped by it before: it must be in no other copy of them either, backups included"
        else:
            then = "If it is in no other copy of them, backups included, the erasure is complete"
        yield f"                  what wrapped them is not among these secrets: {keks}. {then}"
    yield f"replaced values   compaction deletes them within {counted(compaction_days, 'day')}"
    if report.unreadable:
        yield "what remains and cannot be read, since its data keys are destroyed:"
        yield from map(_line, report.unreadable)
    if not report.remaining:
        yield f"what remains      nothing{' else' if report.unreadable else ''}"
        return
    yield f"what remains{' and can be read' if report.unreadable else ''} until its topic's retention ends:"
    yield from map(_line, report.remaining)
    for name in sorted({remains.topic.partition(".")[0] for remains in report.remaining}):
        yield f"  {name}.*: {WHY[name]}"


def _line(remains: Remaining) -> str:
    until = remains.until if remains.until == INDEFINITELY else f"until {remains.until}"
    offsets = f"offsets {remains.first_offset} to {remains.last_offset}"
    return f"  {remains.topic}/{remains.partition}: {counted(remains.records, 'record')} ({offsets}), {until}"


def retention_of(configs: Mapping[str, Mapping[str, str]], declared: Mapping[str, int | None]) -> dict[str, int | None]:
    """Return ``retention.ms`` as the cluster reports it, else as it is declared."""
    return {
        topic: int(configs[topic]["retention.ms"]) if "retention.ms" in configs.get(topic, {}) else retention
        for topic, retention in declared.items()
    }
