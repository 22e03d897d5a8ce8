"""The journal of a raw partition that is mapped again: last values, state entries and the position, in one SQLite file.

Each batch is one transaction. State entries and position always belong together, so a replay that was stopped or killed
continues after its last whole batch.

A value is stored only where it differs from the topic's, so the file grows with the changes and not with the topics. It
contains patient data; only the run folder's owner can read it.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import orjson

from fhirline.config.private_files import make_private
from fhirline.streams.kafka.headers import Headers
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import CONTRIBUTIONS, PATIENTLESS_TYPES

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    key TEXT, partition INT, version TEXT, raw_offset INT, own INT, constant INT, digest BLOB, value BLOB, headers BLOB,
    PRIMARY KEY (key, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contributions (
    key BLOB PRIMARY KEY, partition INT, value BLOB, headers BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state_entries (key BLOB PRIMARY KEY, value BLOB, live INT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mapped (offset INTEGER PRIMARY KEY, live INT);
CREATE TABLE IF NOT EXISTS erased (offset INTEGER PRIMARY KEY, live INT);
CREATE TABLE IF NOT EXISTS failed (offset INTEGER PRIMARY KEY, code TEXT, event_key TEXT, live INT);
CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY CHECK (id = 0), next INT);
"""


@dataclass(frozen=True, slots=True)
class RemappedRecord:
    """A record as the present mapping makes it. ``value`` and ``headers`` are None where the topic has the same bytes.

    ``own``: made entirely by the event that gives it its version, neither carried along nor folded. ``constant``: made
    of identity and configuration only, and the same for every event.
    """

    key: str
    partition: int
    version: str
    raw_offset: int
    own: bool
    constant: bool
    digest: bytes
    value: bytes | None
    headers: bytes | None

    def record(self, topic: str) -> ProducerRecord:
        return ProducerRecord(topic, self.key.encode(), self.value, self.partition, unpacked(self.headers or b"[]"))


_COLUMNS = attrgetter("key", "partition", "version", "raw_offset", "own", "constant", "digest", "value", "headers")


def packed(headers: Headers) -> bytes:
    """Write headers as JSON."""
    return orjson.dumps([(name, value.decode()) for name, value in headers])


def unpacked(headers: bytes) -> Headers:
    """Reverse `packed`."""
    return [(name, text.encode()) for name, text in orjson.loads(headers)]


@dataclass(slots=True)
class Batch:
    """The last values that a batch of raw events has made.

    ``records``: by key and partition. ``contributions`` to Practitioners: by key. ``mapped``: raw offsets. ``erased``:
    those of them whose patients are erased, of which nothing is made. ``failed``: raw offset, error code, event key.
    """

    records: dict[tuple[str, int], RemappedRecord] = field(default_factory=dict)
    contributions: dict[bytes, ProducerRecord] = field(default_factory=dict)
    state_entries: dict[bytes, bytes] = field(default_factory=dict)
    mapped: list[int] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    failed: list[tuple[int, str, str]] = field(default_factory=list)


class Journal:
    """The file of one raw partition. The process that maps the partition writes it; it is read afterwards."""

    def __init__(self, path: Path) -> None:
        make_private(path)  # SQLite gives the same mode to its files beside it
        self._database = sqlite3.connect(path)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @property
    def next(self) -> int | None:
        """Return the offset of the first raw record that has not been read; None before the first batch."""
        row = self._database.execute("SELECT next FROM progress").fetchone()
        return int(row[0]) if row else None

    def save(self, batch: Batch, next: int, live: bool) -> None:
        """Save a batch in one transaction. ``live``: its events are live events, whose state the workers write."""
        with self._database as database:
            database.executemany(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(_COLUMNS, batch.records.values()),
            )
            database.executemany(
                "INSERT OR REPLACE INTO contributions VALUES (?, ?, ?, ?)",
                ((item.key, item.partition, item.value, packed(item.headers)) for item in batch.contributions.values()),
            )
            database.executemany(
                "INSERT OR REPLACE INTO state_entries VALUES (?, ?, ?)",
                ((key, value, live) for key, value in batch.state_entries.items() if value),
            )
            deleted = [(key,) for key, value in batch.state_entries.items() if not value]  # beyond the limit of entries
            database.executemany("DELETE FROM state_entries WHERE key = ?", deleted)
            database.executemany(
                "INSERT OR REPLACE INTO mapped VALUES (?, ?)", ((offset, live) for offset in batch.mapped)
            )
            database.executemany(
                "INSERT OR REPLACE INTO erased VALUES (?, ?)", ((offset, live) for offset in batch.erased)
            )
            database.executemany("DELETE FROM failed WHERE offset = ?", ((offset,) for offset in batch.mapped))
            database.executemany(
                "INSERT OR REPLACE INTO failed VALUES (?, ?, ?, ?)", ((*failure, live) for failure in batch.failed)
            )
            database.execute("INSERT OR REPLACE INTO progress (id, next) VALUES (0, ?)", (next,))

    def state_entries(self, live: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """Return key and value as in the state topic. ``live`` False leaves out the entries of live events."""
        condition = "" if live else " WHERE live = 0"
        yield from self._database.execute(f"SELECT key, value FROM state_entries{condition}")

    def has_state_entry(self, key: bytes) -> bool:
        return self._database.execute("SELECT 1 FROM state_entries WHERE key = ?", (key,)).fetchone() is not None

    def contributions(self) -> Iterator[ProducerRecord]:
        """Return what the partition's events, live ones too, contribute to Practitioners."""
        for key, partition, value, headers in self._database.execute("SELECT * FROM contributions ORDER BY key"):
            yield ProducerRecord(CONTRIBUTIONS, key, value, partition, unpacked(headers))

    def replace_records(self, records: Iterable[RemappedRecord]) -> None:
        """Replace all records."""
        with self._database as database:
            database.execute("DELETE FROM records")
        self.save(Batch({(record.key, record.partition): record for record in records}), 0, live=False)

    def records(self) -> Iterator[RemappedRecord]:
        for row in self._database.execute("SELECT * FROM records ORDER BY key, partition"):
            yield _record(row)

    def get(self, key: str, partition: int) -> RemappedRecord | None:
        row = self._database.execute(
            "SELECT * FROM records WHERE key = ? AND partition = ?", (key, partition)
        ).fetchone()
        return _record(row) if row else None

    def has_mapped(self, offset: int) -> bool:
        return self._database.execute("SELECT 1 FROM mapped WHERE offset = ?", (offset,)).fetchone() is not None

    def has_failed(self, offset: int) -> bool:
        return self._database.execute("SELECT 1 FROM failed WHERE offset = ?", (offset,)).fetchone() is not None

    def failures(self) -> Iterator[tuple[str, int]]:
        """Count the range's events that could not be mapped entirely, by error code.

        Live events do not count: their worker writes their dead letters.
        """
        yield from self._database.execute("SELECT code, COUNT(*) FROM failed WHERE live = 0 GROUP BY code")

    def failed_events(self) -> frozenset[str]:
        return frozenset(key for (key,) in self._database.execute("SELECT event_key FROM failed"))

    def count_of(self, keys: Collection[str], owners: Collection[str], offsets: Collection[int]) -> tuple[int, int]:
        """Count the entries of one patient: resources that have a value, and state entries.

        ``keys`` of resources; ``owners``: raw keys, with which a state entry's key begins; ``offsets`` of raw records.
        """
        stored = self._database.execute("SELECT key, raw_offset FROM records WHERE value IS NOT NULL")
        resources = sum(
            key in keys or (offset in offsets and key.partition("/")[0] not in PATIENTLESS_TYPES)
            for key, offset in stored
        )
        entries = 0
        for owner in owners:
            begin = orjson.dumps([owner])[:-1]
            row = self._database.execute(
                "SELECT COUNT(*) FROM state_entries WHERE key >= ? AND key < ?", (begin + b",", begin + b"-")
            ).fetchone()
            entries += row[0]
        return resources, entries

    @property
    def events(self) -> int:
        """Return the number of the range's raw records that were mapped, without those of erased patients."""
        return int(self._database.execute("SELECT COUNT(*) FROM mapped WHERE live = 0").fetchone()[0]) - self.erased

    @property
    def erased(self) -> int:
        """Return the number of the range's raw records that were passed over because their patients are erased."""
        return int(self._database.execute("SELECT COUNT(*) FROM erased WHERE live = 0").fetchone()[0])


def _record(row: Iterable[object]) -> RemappedRecord:
    key, partition, version, raw_offset, own, constant, digest, value, headers = row
    return RemappedRecord(key, partition, version, raw_offset, bool(own), bool(constant), digest, value, headers)  # type: ignore[arg-type]  # as it was saved
