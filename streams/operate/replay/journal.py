"""What mapping a raw partition anew has made: last value per key, registers, and how far it has come. One SQLite file.

All of a batch is one transaction, so that a replay that was stopped, or killed, goes on where the last whole batch
ended: registers and position always belong together.

A value is kept only where it differs from what its topic holds: the file grows with the changes, not with the topics.
It holds patient data then; the run's folder is its owner's only.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from fhirline.streams.kafka.headers import Headers
from fhirline.streams.kafka.records import ProducerRecord

_SCHEMA = """
CREATE TABLE IF NOT EXISTS made (
    key TEXT, partition INT, stamp TEXT, raw_offset INT, own INT, constant INT, digest BLOB, value BLOB, headers BLOB,
    PRIMARY KEY (key, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS register (key BLOB PRIMARY KEY, value BLOB, live INT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (offset INTEGER PRIMARY KEY, live INT);
CREATE TABLE IF NOT EXISTS failed (offset INTEGER PRIMARY KEY, code TEXT, event_key TEXT, live INT);
CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY CHECK (id = 0), next INT);
"""


@dataclass(frozen=True, slots=True)
class RemappedRecord:
    """A record as the mapping of today makes it; ``value`` and ``headers`` only where the topic holds other bytes.

    ``own``: made whole by the event that gives it its version (not carried along, not folded). ``constant``: of
    identity and configuration only, whichever event shows it.
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
        held: Headers = [(name, text.encode()) for name, text in orjson.loads(self.headers or b"[]")]
        return ProducerRecord(topic, self.key.encode(), self.value, self.partition, held)


@dataclass(slots=True)
class Batch:
    """What a batch of raw events has made, its last values only."""

    made: dict[tuple[str, int], RemappedRecord] = field(default_factory=dict)
    registers: dict[bytes, bytes] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)
    failed: list[tuple[int, str, str]] = field(default_factory=list)


class Journal:
    """The file of one raw partition. Written by the process that maps it, read afterwards."""

    def __init__(self, path: Path) -> None:
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
        """Offset of the first raw record that has not been looked at; None before the first batch."""
        row = self._database.execute("SELECT next FROM progress").fetchone()
        return int(row[0]) if row else None

    def save(self, batch: Batch, next: int, live: bool) -> None:
        """A batch, whole. ``live``: its events are the live workers', who write their registers themselves."""
        with self._database as database:
            database.executemany(
                "INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (m.key, m.partition, m.version, m.raw_offset, m.own, m.constant, m.digest, m.value, m.headers)
                    for m in batch.made.values()
                ),
            )
            database.executemany(
                "INSERT OR REPLACE INTO register VALUES (?, ?, ?)",
                ((key, value, live) for key, value in batch.registers.items()),
            )
            database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", ((each, live) for each in batch.seen))
            database.executemany("DELETE FROM failed WHERE offset = ?", ((each,) for each in batch.seen))
            database.executemany(
                "INSERT OR REPLACE INTO failed VALUES (?, ?, ?, ?)", ((*each, live) for each in batch.failed)
            )
            database.execute("INSERT OR REPLACE INTO progress (id, next) VALUES (0, ?)", (next,))

    def registers(self, live: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """Key and value as in the state topic; ``live`` False leaves out those of live events."""
        wanted = "" if live else " WHERE live = 0"
        yield from self._database.execute(f"SELECT key, value FROM register{wanted}")

    def has_register(self, key: bytes) -> bool:
        return self._database.execute("SELECT 1 FROM register WHERE key = ?", (key,)).fetchone() is not None

    def made(self) -> Iterator[RemappedRecord]:
        for row in self._database.execute("SELECT * FROM made ORDER BY key, partition"):
            yield _made(row)

    def get(self, key: str, partition: int) -> RemappedRecord | None:
        row = self._database.execute("SELECT * FROM made WHERE key = ? AND partition = ?", (key, partition)).fetchone()
        return _made(row) if row else None

    def has_seen(self, offset: int) -> bool:
        return self._database.execute("SELECT 1 FROM seen WHERE offset = ?", (offset,)).fetchone() is not None

    def has_failed(self, offset: int) -> bool:
        return self._database.execute("SELECT 1 FROM failed WHERE offset = ?", (offset,)).fetchone() is not None

    def failures(self) -> Iterator[tuple[str, int]]:
        """Error codes of the range's events that could not be mapped (whole), and how many.

        A live event's letter is its worker's to write, and nothing that this run has missed.
        """
        yield from self._database.execute("SELECT code, COUNT(*) FROM failed WHERE live = 0 GROUP BY code")

    def failed_events(self) -> frozenset[str]:
        return frozenset(key for (key,) in self._database.execute("SELECT event_key FROM failed"))

    @property
    def events(self) -> int:
        """Raw records of the range that were mapped."""
        return int(self._database.execute("SELECT COUNT(*) FROM seen WHERE live = 0").fetchone()[0])


def _made(row: Iterable[object]) -> RemappedRecord:
    key, partition, version, raw_offset, own, constant, digest, value, headers = row
    return RemappedRecord(key, partition, version, raw_offset, bool(own), bool(constant), digest, value, headers)  # type: ignore[arg-type]  # as it was saved
