"""Comparison of the records that the present mapping makes with those on the topics, key by key.

Only the last value of a key is compared, and only with a record that it may replace. It never replaces a record

* of a greater version, because a range does not contain the events after it (mapping.md §3.2);
* written by a live event, which is later than the replay's position and not part of it. For a fold the version does not
  show that: a late event writes it with the greatest version of all its events;
* written by the same event when it was delivered again outside the range. The two may differ in the time of receipt,
  and the last delivery's stays;
* written by an event of another raw partition (resources that are the same for all events). The order between
  partitions cannot be repeated, so the topic's record is compared only with what its own partition makes.

A Practitioner is folded over all partitions (`practitioners`), so that it is compared whichever event wrote it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from fhirline.config.settings import Settings
from fhirline.mappers import MAPPING_VERSION
from fhirline.streams.kafka.headers import RAW, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, position_of
from fhirline.streams.operate.replay.codes import changed_codes
from fhirline.streams.operate.replay.difference import (
    DIFFERING,
    Difference,
    Kind,
    differing_paths,
    differs_by_version_only,
)
from fhirline.streams.operate.replay.journal import Journal, RemappedRecord, unpacked
from fhirline.streams.operate.replay.practitioners import Practitioners
from fhirline.streams.operate.replay.topic_index import IndexedRecord, TopicIndex
from fhirline.topics.declared import CONTRIBUTIONS, PATIENTLESS_TYPES, canonical_topic

_RANKED = (Kind.KEPT, Kind.SAME, Kind.NEW, Kind.CHANGED)
"""Kinds in ascending order: a key that several partitions make has the last of theirs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replayed record that may replace the record on its topic. ``source``: the raw partition that made it."""

    kind: Kind
    record: RemappedRecord
    source: str
    present: IndexedRecord | None

    @property
    def raw(self) -> str:
        """Return the position of the raw record that it was made from."""
        return _raw(self.record, self.source)


def classify(record: RemappedRecord, source: str, present: IndexedRecord | None, journal: Journal) -> Kind:
    """Classify a replayed record against the record on its topic, by the rules above."""
    if present is None:
        return Kind.NEW
    if present.digest == record.digest:
        return Kind.SAME
    if record.constant:
        return Kind.CHANGED
    if present.source != source or present.version > record.version or present.raw_offset >= (journal.next or 0):
        return Kind.KEPT
    repeated = record.own and present.version == record.version and present.raw_offset > record.raw_offset
    return Kind.KEPT if repeated and not journal.has_mapped(present.raw_offset) else Kind.CHANGED


def classify_shared(record: RemappedRecord, present: IndexedRecord | None, journal: Journal | None) -> Kind:
    """Classify a Practitioner. ``journal`` is that of the raw partition whose event wrote the topic's record."""
    if present is None:
        return Kind.NEW
    if present.digest == record.digest:
        return Kind.SAME
    if present.version > record.version or (journal is not None and present.raw_offset >= (journal.next or 0)):
        return Kind.KEPT
    return Kind.CHANGED


class Comparison:
    """Compares journals with the index. Call `candidates` first, then `gone`; `described` finds what changed.

    ``systems``: code systems whose codes a difference names.
    """

    def __init__(
        self,
        settings: Settings,
        index: TopicIndex,
        journals: Mapping[str, Journal],
        practitioners: Practitioners,
        prefix: str = "",
        systems: frozenset[str] = frozenset(),
    ) -> None:
        self._settings = settings
        self._index = index
        self._practitioners = practitioners
        self._sources = journals
        self._journals = {**journals, CONTRIBUTIONS: practitioners.journal}
        self._prefix = prefix
        self._systems = systems
        self.unchanged: Counter[tuple[str, Kind]] = Counter()
        """(resource type, kind) → number of keys that need no record: same, or kept."""

    def candidates(self, everything: bool = False) -> Iterator[Candidate]:
        """Return the records to publish, one per key. ``everything``: also those that are the same.

        If several partitions make a new key, the record of the greatest version is chosen. A record whose value was not
        stored, because the topic had the same then, is no candidate: whoever has written another one since knew more
        events.
        """
        wanted = DIFFERING | {Kind.SAME} if everything else DIFFERING
        patientless: dict[tuple[str, int], tuple[int, str, Kind, str]] = {}
        self.unchanged.clear()
        for source, journal in self._journals.items():
            for record in journal.records():
                place, resource_type = (record.key, record.partition), record.key.partition("/")[0]
                present = self._index.get(*place)
                if source == CONTRIBUTIONS:
                    kind = classify_shared(record, present, self._sources.get(present.source) if present else None)
                else:
                    kind = classify(record, source, present, journal)
                if record.value is None and kind in wanted:
                    kind = Kind.KEPT
                if resource_type in PATIENTLESS_TYPES:
                    ranked = (_RANKED.index(kind), record.version, kind, source)
                    patientless[place] = max(ranked, patientless.get(place, ranked))
                elif kind in wanted:
                    yield Candidate(kind, record, source, present)
                else:
                    self.unchanged[resource_type, kind] += 1
        for place, (_, _, kind, source) in patientless.items():
            if kind in wanted and (found := self._journals[source].get(*place)):
                yield Candidate(kind, found, source, self._index.get(*place))
            else:
                self.unchanged[place[0].partition("/")[0], kind] += 1

    def gone(self) -> Iterator[IndexedRecord]:
        """Return the records that an event of the range wrote last, and that no event makes now.

        Records of an event that fails now stay, because that is a defect to fix. So does the Device of an earlier
        mapping version, which Provenances outside the range refer to, and a Medication, to which other requests may.
        """
        for source, journal in self._sources.items():
            for present in self._index.written_by(source):
                if self._practitioners.contributed(present.key):
                    continue
                if not journal.has_mapped(present.raw_offset) or journal.has_failed(present.raw_offset):
                    continue
                if any(item.get(present.key, present.partition) for item in self._journals.values()):
                    continue
                if present.key.startswith("Medication/"):
                    continue
                if not (present.key.startswith("Device/") and present.mapping_version != MAPPING_VERSION):
                    yield present

    def described(self, candidates: Iterable[Candidate]) -> Iterator[Difference]:
        """Find the paths at which the candidates differ. The topics are read once more, for the values on them."""
        database = self._index.database
        database.execute("DROP TABLE IF EXISTS temp.wanted")
        database.execute(
            "CREATE TEMP TABLE wanted (topic TEXT, partition INT, offset INT, key TEXT, source TEXT, was TEXT,"
            " tables_was TEXT,"
            " PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID"
        )
        for candidate in candidates:
            record, present = candidate.record, candidate.present
            if present is None:
                kind = Kind.BY_VERSION if _is_mapper(record) else Kind.NEW
                yield Difference(kind, record.key, record.partition, candidate.raw)
            else:
                topic = self._prefix + canonical_topic(record.key.partition("/")[0])
                position = (topic, record.partition, present.offset)
                versions = (present.mapping_version, present.tables_version)
                row = (*position, record.key, candidate.source, *versions)
                database.execute("INSERT INTO wanted VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        grouped = "SELECT topic, partition, MIN(offset), MAX(offset) FROM wanted GROUP BY topic, partition"
        extents = database.execute(grouped).fetchall()
        starts = {TopicPartition(topic, partition): first for topic, partition, first, _ in extents}
        ends = {TopicPartition(topic, partition): last + 1 for topic, partition, _, last in extents}
        with Scanner(self._settings) as scanner:
            for message in scanner.read(starts, ends):
                at = position_of(message)
                found = database.execute(f"SELECT key, source, was, tables_was FROM wanted {_AT}", at).fetchone()
                if found is None:
                    continue
                key, source, *versions = found
                if (replayed := self._journals[source].get(key, at.partition)) is not None:
                    yield self._described(replayed, source, *versions, value=message.value() or b"{}")
                    database.execute(f"DELETE FROM wanted {_AT}", at)
        for key, partition in database.execute("SELECT key, partition FROM wanted"):  # written again in between
            yield Difference(Kind.KEPT, key, partition, "")

    def _described(self, record: RemappedRecord, source: str, was: str, tables_was: str, *, value: bytes) -> Difference:
        present, now = orjson.loads(value), orjson.loads(record.value or b"{}")
        by_version = was != MAPPING_VERSION and differs_by_version_only(present, now)
        return Difference(
            Kind.BY_VERSION if by_version else Kind.CHANGED,
            record.key,
            record.partition,
            _raw(record, source),
            was,
            tuple(sorted(differing_paths(present, now))),
            tables_was,
            tuple(changed_codes(present, now, self._systems)),
        )


_AT = "WHERE topic = ? AND partition = ? AND offset = ?"


def _is_mapper(record: RemappedRecord) -> bool:
    """Tell whether the record is the mapper's own Device, whose key is the mapping version."""
    if not record.key.startswith("Device/"):
        return False
    names = orjson.loads(record.value or b"{}").get("deviceName", ())
    return any(name.get("name") == "fhirline" for name in names)


def _raw(record: RemappedRecord, source: str) -> str:
    """Return the position of the raw record that a record was made from; of a Practitioner, its latest event's."""
    if source == CONTRIBUTIONS:
        return header(unpacked(record.headers or b"[]"), RAW) or ""
    return f"{source}/{record.raw_offset}"
