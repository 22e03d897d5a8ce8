"""What differs between what the mapping of today makes and what the topics hold, key by key.

Only the last value of a key is compared, and only with a record that it may replace:

* never one of a greater version: a range knows nothing of what came after it (mapping.md §3.2);
* never one that a raw record behind the replay's position wrote: a live event, of which the replay has not heard. For a
  fold the version alone would not tell, since a late event writes it with the greatest version of all its events;
* never one that the same event wrote when it was delivered again, outside the range: they may differ in the time of
  receipt, and the last delivery's stays;
* of a resource that several raw partitions write (Practitioner; constants), the one that lies there is compared with
  what its own partition makes of it, and the others' are left alone: no order between partitions could be repeated.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO

import orjson

from fhirline.config.settings import Settings
from fhirline.mappers import MAPPING_VERSION
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, position_of
from fhirline.streams.operate.replay.journal import Journal, RemappedRecord
from fhirline.streams.operate.replay.topic_index import Held, HeldIndex
from fhirline.topics.declared import PATIENTLESS_TYPES, canonical_topic

EXAMPLES = 3
"""Of a type and kind, how many examples are kept for the report; ``--diff-out`` has all."""


class Kind(StrEnum):
    """What became of a key."""

    SAME = "same"
    CHANGED = "changed"
    NEW = "new"
    GONE = "gone"
    BY_VERSION = "by version"
    """Differs in nothing but the mapper's version."""
    KEPT = "kept"
    """Held by a later event, or by another partition's: not this range's to change."""


_OF_SHARED = (Kind.KEPT, Kind.SAME, Kind.NEW, Kind.CHANGED)
"""Of a key that several partitions make: which of their verdicts stands, the last one first."""

DIFFERING = frozenset({Kind.CHANGED, Kind.NEW, Kind.GONE, Kind.BY_VERSION})


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that is not the same. ``paths``: elements that differ, without values; ``raw``: the event behind it."""

    kind: Kind
    key: str
    partition: int
    raw: str
    was: str = ""
    """Mapping version of the record that the topic holds."""
    paths: tuple[str, ...] = ()

    @property
    def resource_type(self) -> str:
        return self.key.partition("/")[0]

    def line(self) -> bytes:
        """A line of ``--diff-out``: keys, positions and paths, nothing of a patient."""
        told = {"kind": self.kind, "key": self.key, "partition": self.partition, "raw": self.raw, "was": self.was}
        return orjson.dumps({**told, "now": MAPPING_VERSION, "paths": self.paths}) + b"\n"


@dataclass(slots=True)
class Tally:
    """A resource type's differences, counted."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    examples: list[Difference] = field(default_factory=list)

    def add(self, each: Difference) -> None:
        self.kinds[each.kind] += 1
        if each.kind in DIFFERING:
            self.paths.update(each.paths)
            if sum(known.kind is each.kind for known in self.examples) < EXAMPLES:
                self.examples.append(each)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A made record that differs from what its topic holds, and may take its place; ``source`` made it."""

    kind: Kind
    made: RemappedRecord
    source: str
    held: Held | None

    @property
    def place(self) -> tuple[str, int]:
        return self.made.key, self.made.partition


def judge(made: RemappedRecord, source: str, held: Held | None, journal: Journal) -> Kind:
    """What a made record is to the one that its topic holds; the reasons stand above."""
    if held is None:
        return Kind.NEW
    if held.digest == made.digest:
        return Kind.SAME
    if made.constant:
        return Kind.CHANGED
    if held.source != source or held.version > made.version or held.raw_offset >= (journal.next or 0):
        return Kind.KEPT
    again = made.own and held.version == made.version and held.raw_offset > made.raw_offset
    return Kind.KEPT if again and not journal.has_seen(held.raw_offset) else Kind.CHANGED


class Comparison:
    """Journals against the index. ``candidates`` first; then `gone`; `described` says what changed in them."""

    def __init__(self, settings: Settings, index: HeldIndex, journals: Mapping[str, Journal], prefix: str = "") -> None:
        self._settings = settings
        self._index = index
        self._journals = journals
        self._prefix = prefix
        self.settled: Counter[tuple[str, Kind]] = Counter()
        """(resource type, kind) → keys that need no record: the same, or kept."""

    def candidates(self, everything: bool = False) -> Iterator[Candidate]:
        """What would go out, one a key: of several partitions' new ones that of the greatest version.

        ``everything``: also what is the same. A record whose value was not kept, since the topic held it then, is none:
        whoever has written another one since has heard of more.
        """
        wanted = DIFFERING | {Kind.SAME} if everything else DIFFERING
        shared: dict[tuple[str, int], tuple[int, str, Kind, str]] = {}
        self.settled.clear()
        for source, journal in self._journals.items():
            for made in journal.made():
                place, resource_type = (made.key, made.partition), made.key.partition("/")[0]
                held = self._index.get(*place)
                kind = judge(made, source, held, journal)
                if made.value is None and kind in wanted:
                    kind = Kind.KEPT
                if resource_type in PATIENTLESS_TYPES:
                    rank = (_OF_SHARED.index(kind), made.version, kind, source)
                    shared[place] = max(rank, shared.get(place, rank))
                elif kind in wanted:
                    yield Candidate(kind, made, source, held)
                else:
                    self.settled[resource_type, kind] += 1
        for place, (_, _, kind, source) in shared.items():
            if kind in wanted and (found := self._journals[source].get(*place)):
                yield Candidate(kind, found, source, self._index.get(*place))
            else:
                self.settled[place[0].partition("/")[0], kind] += 1

    def gone(self) -> Iterator[Held]:
        """Records that an event of the range wrote last, and that nothing makes now.

        Not those of an event that fails now: that is a defect to mend. Nor the Device of an earlier mapping version,
        which every Provenance outside the range still names.
        """
        for source, journal in self._journals.items():
            for held in self._index.made_by(source):
                if not journal.has_seen(held.raw_offset) or journal.has_failed(held.raw_offset):
                    continue
                if any(each.get(held.key, held.partition) for each in self._journals.values()):
                    continue
                if not (held.key.startswith("Device/") and held.mapping_version != MAPPING_VERSION):
                    yield held

    def described(self, candidates: Iterable[Candidate]) -> Iterator[Difference]:
        """The candidates with the paths that differ: the topics are read again, once, for what they hold."""
        database = self._index.database
        database.execute("DROP TABLE IF EXISTS temp.wanted")
        database.execute(
            "CREATE TEMP TABLE wanted (topic TEXT, partition INT, offset INT, key TEXT, source TEXT, was TEXT,"
            " PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID"
        )
        for each in candidates:
            if each.held is None:
                of_the_mapper = each.made.key.startswith("Device/") and _of_the_mapper(each.made)
                yield Difference(Kind.BY_VERSION if of_the_mapper else Kind.NEW, *each.place, _raw(each))
            else:
                topic = self._prefix + canonical_topic(each.made.key.partition("/")[0])
                row = (
                    topic,
                    each.made.partition,
                    each.held.offset,
                    each.made.key,
                    each.source,
                    each.held.mapping_version,
                )
                database.execute("INSERT INTO wanted VALUES (?, ?, ?, ?, ?, ?)", row)
        grouped = "SELECT topic, partition, MIN(offset), MAX(offset) FROM wanted GROUP BY topic, partition"
        extents = database.execute(grouped).fetchall()
        first = {TopicPartition(topic, partition): first for topic, partition, first, _ in extents}
        upto = {TopicPartition(topic, partition): last + 1 for topic, partition, _, last in extents}
        with Scanner(self._settings) as scanner:
            for message in scanner.read(first, upto):
                place = position_of(message)
                found = database.execute(f"SELECT key, source, was FROM wanted {_AT}", place).fetchone()
                made = self._journals[found[1]].get(found[0], place[1]) if found else None
                if made is not None:
                    yield _described(made, found[1], found[2], message.value() or b"{}")
                    database.execute(f"DELETE FROM wanted {_AT}", place)
        for key, partition in database.execute("SELECT key, partition FROM wanted"):  # written anew in between
            yield Difference(Kind.KEPT, key, partition, "")


_AT = "WHERE topic = ? AND partition = ? AND offset = ?"


def _raw(candidate: Candidate) -> str:
    return f"{candidate.source}/{candidate.made.raw_offset}"


def _of_the_mapper(made: RemappedRecord) -> bool:
    names = orjson.loads(made.value or b"{}").get("deviceName", ())
    return any(each.get("name") == "fhirline" for each in names)


def _described(made: RemappedRecord, source: str, was: str, value: bytes) -> Difference:
    held, now = orjson.loads(value), orjson.loads(made.value or b"{}")
    paths = tuple(sorted(differing(held, now)))
    kind = Kind.BY_VERSION if was != MAPPING_VERSION and renamed(held, now) else Kind.CHANGED
    return Difference(kind, made.key, made.partition, f"{source}/{made.raw_offset}", was, paths)


def renamed(was: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two Provenances differ in nothing but which Device the mapper is: as agent, and among the targets."""
    old, new = _assembler(was), _assembler(now)
    if not old or not new:
        return False
    brought = orjson.loads(orjson.dumps(was).replace(old.encode(), new.encode()))
    for each in (brought, now):
        each["target"] = sorted(each.get("target", ()), key=orjson.dumps)  # in the order of ids
    return bool(brought == now)


def _assembler(resource: dict[str, Any]) -> str:
    """The mapper's reference, as a Provenance names it; empty in any other resource."""
    for agent in resource.get("agent", ()) if resource.get("resourceType") == "Provenance" else ():
        if any(each.get("code") == "assembler" for each in agent.get("type", {}).get("coding", ())):
            return str(agent.get("who", {}).get("reference", ""))
    return ""


def differing(was: Any, now: Any, at: str = "") -> set[str]:
    """Paths at which two JSON values differ, FHIR names joined by dots, ``[]`` for any item of a list; no values."""
    if isinstance(was, dict) and isinstance(now, dict):
        found: set[str] = set()
        for name in was.keys() | now.keys():
            below = f"{at}.{name}" if at else name
            if name not in was or name not in now:
                found.add(below)
            else:
                found |= differing(was[name], now[name], below)
        return found or ({at} if [*was] != [*now] else set())
    if isinstance(was, list) and isinstance(now, list):
        found = {f"{at}[]"} if len(was) != len(now) else set()
        for one, other in zip(was, now, strict=False):
            found |= differing(one, other, f"{at}[]")
        return found
    return set() if was == now and type(was) is type(now) else {at}


@dataclass(slots=True)
class Report:
    """The whole comparison, by resource type."""

    types: dict[str, Tally] = field(default_factory=dict)

    def add(self, each: Difference) -> None:
        self.types.setdefault(each.resource_type, Tally()).add(each)

    def settle(self, counted: Mapping[tuple[str, Kind], int]) -> None:
        for (resource_type, kind), count in counted.items():
            self.types.setdefault(resource_type, Tally()).kinds[kind] += count

    def total(self, kind: Kind) -> int:
        return sum(tally.kinds[kind] for tally in self.types.values())

    @property
    def differs(self) -> bool:
        return any(self.total(kind) for kind in DIFFERING)


def report(comparison: Comparison, out: BinaryIO | None = None) -> Report:
    """Compare all; ``out`` gets each difference as a line."""
    made = Report()

    def tell(each: Difference) -> None:
        made.add(each)
        if out is not None and each.kind in DIFFERING:
            out.write(each.line())

    for difference in comparison.described(comparison.candidates()):
        tell(difference)
    for held in comparison.gone():
        tell(Difference(Kind.GONE, held.key, held.partition, f"{held.source}/{held.raw_offset}", held.mapping_version))
    made.settle(comparison.settled)
    return made
