"""The index of the canonical topics: per key its offset, a digest of its value, and the event that wrote it.

The index is in SQLite. It is read from the topics once, and later from where it ended. Values stay in Kafka, and memory
does not grow with the number of keys. A key that was written to two partitions is two records here, as it is for
compaction.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Message

from fhirline.config.private_files import make_private
from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.results import Version
from fhirline.streams.kafka.headers import (
    EVENT_KEY,
    MAPPING_VERSION,
    OCCURRED_AT,
    RAW,
    TABLES_VERSION,
    VENDOR,
    header,
)
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, headers_of, partition_of
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    key TEXT, partition INT, offset INT, digest BLOB, source TEXT, raw_offset INT, version TEXT, mapping_version TEXT,
    tables_version TEXT,
    PRIMARY KEY (key, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (topic TEXT, partition INT, next INT, PRIMARY KEY (topic, partition));
"""
_BATCH = 5_000
_EPOCH = 10**12
"""Added to seconds, so that times before 1970 sort as text."""


@dataclass(frozen=True, slots=True)
class IndexedRecord:
    """A canonical record. ``source`` and ``raw_offset``: its header ``raw``. ``version``: in the form of `sortable`."""

    key: str
    partition: int
    offset: int
    digest: bytes
    source: str
    raw_offset: int
    version: str
    mapping_version: str
    tables_version: str

    @property
    def raw(self) -> str:
        """Return the position of the raw record that it was made from."""
        return f"{self.source}/{self.raw_offset}"


def digest(value: bytes) -> bytes:
    """Digest a value to 16 bytes. Among 10^12 values a collision has odds of 10^-15."""
    return hashlib.blake2b(value, digest_size=16).digest()


def sortable(version: Version) -> str:
    """Write a version as text that sorts as versions compare: seconds, fraction digits, event key (mapping.md §3.2)."""
    seconds, fraction = version.order
    return f"{seconds + _EPOCH:013d}{fraction} {version.event_key}"  # a space is less than any digit


class TopicIndex:
    """The index in a file. ``prefix`` precedes the topics' names (shadow topics). It has the vendors' records only."""

    def __init__(self, path: Path, settings: Settings, vendors: Iterable[str], prefix: str = "") -> None:
        self.path = path
        make_private(path)  # SQLite gives the same mode to its files beside it
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
        self, advance: Callable[[int], None] = lambda _: None, visit: Callable[[Message], None] | None = None
    ) -> None:
        """Index the records since the last time, to the topics' ends. ``visit`` is called with each of them.

        After an interruption it continues from the last whole batch. Raises KafkaAccessError.
        """
        with Scanner(self._settings) as scanner:
            topics = [self._prefix + canonical_topic(name) for name in RESOURCE_TYPES]
            known = self.database.execute("SELECT * FROM position")
            positions = {TopicPartition(topic, number): next for topic, number, next in known}
            partitions = scanner.topic_partitions(topics)
            batch: list[Message] = []
            for message in scanner.read({partition: positions.get(partition) for partition in partitions}):
                if visit is not None:
                    visit(message)
                batch.append(message)
                if len(batch) == _BATCH:
                    self._save(batch)
                    advance(len(batch))
                    batch = []
            self._save(batch)
            advance(len(batch))
        self.database.execute("CREATE INDEX IF NOT EXISTS by_source ON records (source, raw_offset)")

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
                "DELETE FROM records WHERE key = ? AND partition = ?", (key for key, row in rows.items() if row is None)
            )
            self.database.executemany(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((*key, *row) for key, row in rows.items() if row is not None),
            )
            self.database.executemany(
                "INSERT OR REPLACE INTO position VALUES (?, ?, ?)",
                [(*partition, position) for partition, position in positions.items()],
            )

    def _row(self, message: Message) -> tuple[object, ...] | None:
        """Return the columns after key and partition; None for a tombstone, and for other vendors' records."""
        value, headers = message.value(), headers_of(message)
        if value is None or (header(headers, VENDOR) or "") not in self._vendors:
            return None
        source, _, raw_offset = (header(headers, RAW) or "").rpartition("/")
        return (
            message.offset(),
            digest(value),
            source,
            int(raw_offset) if raw_offset.isdigit() else -1,
            version_of_headers(header(headers, OCCURRED_AT), header(headers, EVENT_KEY)),
            header(headers, MAPPING_VERSION) or "",
            header(headers, TABLES_VERSION) or "",
        )

    def get(self, key: str, partition: int) -> IndexedRecord | None:
        row = self.database.execute(
            "SELECT * FROM records WHERE key = ? AND partition = ?", (key, partition)
        ).fetchone()
        return IndexedRecord(*row) if row else None

    def written_by(self, source: str) -> Iterator[IndexedRecord]:
        """Return the records that events of a raw partition wrote last."""
        rows = self.database.execute("SELECT * FROM records WHERE source = ? ORDER BY raw_offset, key", (source,))
        return (IndexedRecord(*row) for row in rows)


def version_of_headers(at: str | None, event_key: str | None) -> str:
    """Return the version in a record's headers, in the form of `sortable`. A record without them is older than any."""
    instant = Instant.parse(at)
    return sortable(Version(instant.order, event_key or "")) if instant else ""
