"""What the canonical topics hold: per key where it lies, a digest of its bytes, and who wrote it.

An index in SQLite, read from the topics once and read on from there: values stay in Kafka, and memory does not grow
with the number of keys. A key that somebody wrote into two partitions is two records here, as it is for compaction.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import Version
from fhirline.streams.kafka.headers import EVENT_KEY, MAPPING_VERSION, OCCURRED_AT, RAW, VENDOR, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, headers_of, partition_of
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic

_SCHEMA = """
CREATE TABLE IF NOT EXISTS held (
    key TEXT, partition INT, offset INT, digest BLOB, source TEXT, raw_offset INT, stamp TEXT, version TEXT,
    PRIMARY KEY (key, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (topic TEXT, partition INT, next INT, PRIMARY KEY (topic, partition));
"""
_AT_A_TIME = 5_000
_EPOCH = 10**12
"""Added to seconds, so that times before 1970 sort as text."""


@dataclass(frozen=True, slots=True)
class Held:
    """A canonical record. ``source`` and ``raw_offset`` are its header ``raw``; ``version`` as `sortable` makes it."""

    key: str
    partition: int
    offset: int
    digest: bytes
    source: str
    raw_offset: int
    version: str
    mapping_version: str


def digest(value: bytes) -> bytes:
    """16 bytes that stand for a value: among 10^12 of them a collision has odds of 10^-15."""
    return hashlib.blake2b(value, digest_size=16).digest()


def sortable(version: Version) -> str:
    """A version as text that sorts as versions compare: seconds, fraction digits, event key (mapping.md §3.2)."""
    seconds, fraction = version.order
    return f"{seconds + _EPOCH:013d}{fraction} {version.event_key}"  # a space is less than any digit


class HeldIndex:
    """The index in a file. ``prefix`` stands before the topics' names (shadow topics); ``vendors`` limits it."""

    def __init__(self, path: Path, settings: Settings, vendors: Iterable[str], prefix: str = "") -> None:
        self.path = path
        self.database = sqlite3.connect(path)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("PRAGMA synchronous = NORMAL")
        self.database.executescript(_SCHEMA)
        self._settings = settings
        self._vendors = frozenset(vendors)
        self._prefix = prefix

    def close(self) -> None:
        self.database.close()

    def read_on(
        self, advance: Callable[[int], None] = lambda _: None, each: Callable[[Message], None] | None = None
    ) -> None:
        """Take in what has been written since the last time, to the topics' ends; ``each`` sees every record of it.

        Interrupted, it goes on from the last whole batch. Raises KafkaAccessError where Kafka does not answer.
        """
        with Scanner(self._settings) as scanner:
            topics = [self._prefix + canonical_topic(each) for each in RESOURCE_TYPES]
            known = self.database.execute("SELECT * FROM position")
            positions = {TopicPartition(topic, number): next for topic, number, next in known}
            partitions = scanner.topic_partitions(topics)
            batch: list[Message] = []
            for message in scanner.read({partition: positions.get(partition) for partition in partitions}):
                if each is not None:
                    each(message)
                batch.append(message)
                if len(batch) == _AT_A_TIME:
                    self._save(batch)
                    advance(len(batch))
                    batch = []
            self._save(batch)
            advance(len(batch))
        self.database.execute("CREATE INDEX IF NOT EXISTS by_source ON held (source, raw_offset)")

    def _save(self, messages: list[Message]) -> None:
        rows: dict[tuple[str, int], tuple[object, ...] | None] = {}
        positions: dict[TopicPartition, int] = {}
        for message in messages:
            positions[partition_of(message)] = (message.offset() or 0) + 1
            row = self._row(message)
            if row is not None or message.value() is None:
                rows[(message.key() or b"").decode("utf-8", "replace"), message.partition() or 0] = row
        with self.database:
            self.database.executemany(
                "DELETE FROM held WHERE key = ? AND partition = ?", (each for each, row in rows.items() if row is None)
            )
            self.database.executemany(
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                ((*place, *row) for place, row in rows.items() if row is not None),
            )
            self.database.executemany(
                "INSERT OR REPLACE INTO position VALUES (?, ?, ?)",
                [(*place, position) for place, position in positions.items()],
            )

    def _row(self, message: Message) -> tuple[object, ...] | None:
        """The columns behind the key; None for a tombstone and for what other vendors' events have made."""
        value, sent = message.value(), headers_of(message)
        if value is None or (header(sent, VENDOR) or "") not in self._vendors:
            return None
        source, _, raw_offset = (header(sent, RAW) or "").rpartition("/")
        return (
            message.offset(),
            digest(value),
            source,
            int(raw_offset) if raw_offset.isdigit() else -1,
            _stamp(header(sent, OCCURRED_AT), header(sent, EVENT_KEY)),
            header(sent, MAPPING_VERSION) or "",
        )

    def get(self, key: str, partition: int) -> Held | None:
        row = self.database.execute("SELECT * FROM held WHERE key = ? AND partition = ?", (key, partition)).fetchone()
        return Held(*row) if row else None

    def made_by(self, source: str) -> Iterator[Held]:
        """The records that events of a raw partition wrote last."""
        rows = self.database.execute("SELECT * FROM held WHERE source = ? ORDER BY raw_offset, key", (source,))
        return (Held(*row) for row in rows)

    def position(self, place: TopicPartition) -> int:
        """Offset up to which a topic's partition has been taken in."""
        row = self.database.execute("SELECT next FROM position WHERE topic = ? AND partition = ?", place).fetchone()
        return int(row[0]) if row else 0

    def __len__(self) -> int:
        return int(self.database.execute("SELECT COUNT(*) FROM held").fetchone()[0])


def _stamp(at: str | None, event_key: str | None) -> str:
    """The version that a record's headers tell; a record without them is older than any."""
    instant = Instant.parse(at)
    return sortable(Version(instant.order, event_key or "")) if instant else ""
