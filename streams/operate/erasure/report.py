"""What an erasure did and what it could not take away. Counts and places; ids of resources only in the export file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from fhirline.streams.operate.erasure.find import Found
from fhirline.topics.declared import FOREVER

WHY = {
    "raw": "what is received is kept unchanged; Kafka deletes no single record of such a topic",
    "dead-letter": "a dead letter holds its event; Kafka deletes no single record of such a topic",
    "fhir": "Bundles that went out before; whoever took them was sent the DELETE Bundle",
    "normalizer": "outcomes: paths and codes, no values of the patient",
}
"""By the first part of a topic's name: why records stay."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """Records of the patient in one partition that stay until the topic's retention ends."""

    topic: str
    partition: int
    records: int
    first_offset: int
    last_offset: int
    until: str
    """RFC 3339 date, or ``for good``. Kafka deletes whole segments, so the day may be a segment's time later."""

    @property
    def why(self) -> str:
        return WHY[self.topic.partition(".")[0]]


@dataclass(slots=True)
class Report:
    """Of one run. ``digest`` stands for the patient, whose key is nowhere in here."""

    vendor: str
    tenant: str
    digest: str
    blocked_at: str = ""
    blocks: int = 0
    tombstones: Counter[str] = field(default_factory=Counter)
    """Resource type → keys."""
    found_by: Counter[str] = field(default_factory=Counter)
    state: int = 0
    bundles: int = 0
    looks: int = 0
    left: int = 0
    remaining: tuple[Remaining, ...] = ()
    keys: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.left == 0

    def document(self) -> dict[str, Any]:
        """For the export file: with the keys, by which a consumer's own copies can be found."""
        return {
            **asdict(self),
            "complete": self.complete,
            "tombstones": dict(self.tombstones),
            "found_by": dict(self.found_by),
            "keys": sorted(self.keys),
            "remaining": [{**asdict(each), "why": each.why} for each in self.remaining],
        }


def remaining(found: Found, retention: Mapping[str, int | None]) -> tuple[Remaining, ...]:
    """What stays, and until when by ``retention`` (topic → ``retention.ms``, None where nobody tells)."""
    return tuple(
        Remaining(
            topic,
            partition,
            each.records,
            each.first_offset,
            each.last_offset,
            _until(each.newest_ms, retention.get(topic)),
        )
        for (topic, partition), each in sorted(found.remains.items())
    )


def _until(newest_ms: int, retention: int | None) -> str:
    if retention is None:
        return "the topic's retention, which this broker does not tell"
    if retention == FOREVER:
        return "for good"
    try:
        return datetime.fromtimestamp((newest_ms + retention) / 1000, UTC).date().isoformat()
    except (OverflowError, ValueError):
        return "for good"


def lines(report: Report, compaction_days: int) -> Sequence[str]:
    """The report in plain words."""
    of_types = ", ".join(f"{count} {name}" for name, count in sorted(report.tombstones.items())) or "none"
    ways = ", ".join(f"{count} by {way}" for way, count in sorted(report.found_by.items()))
    told = [
        f"blocked since     {report.blocked_at} ({report.blocks} keyed hashes in normalizer.erased)",
        f"tombstones        {report.tombstones.total()} ({of_types})",
        f"found             {ways or 'nothing'}",
        f"folds' memory     {report.state} registers",
        f"DELETE Bundles    {report.bundles}, and a Provenance of the erasure without the patient",
        f"looked again      {report.looks} times; left over: {report.left}",
        f"replaced values   are gone from compacted topics within {compaction_days} days",
    ]
    if not report.remaining:
        return [*told, "what stays        nothing"]
    told.append("what stays, until its topic's retention ends:")
    for each in report.remaining:
        told.append(
            f"  {each.topic}/{each.partition}: {each.records} records (offsets {each.first_offset} to "
            f"{each.last_offset}), until {each.until}"
        )
    told += [f"  {name}.*: {WHY[name]}" for name in sorted({each.topic.partition(".")[0] for each in report.remaining})]
    return told


def retention_of(configs: Mapping[str, Mapping[str, str]], declared: Mapping[str, int | None]) -> dict[str, int | None]:
    """``retention.ms`` as the cluster tells it, else as it is declared."""
    return {
        topic: int(configs[topic]["retention.ms"]) if "retention.ms" in configs.get(topic, {}) else kept
        for topic, kept in declared.items()
    }
