"""Index what was sent of each resource to the FHIR server, and what waits, by `streams.deliver.state`."""

import sqlite3
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

from confluent_kafka import Message

from fhirline.streams.deliver.entries import SHARED_TYPES
from fhirline.streams.deliver.state import RESUME, TOPIC, WAITING, DeliveredPartition, Sent, Waiting, decode_sent
from fhirline.streams.kafka.headers import ERROR_CODE, header
from fhirline.streams.kafka.records import RecordPosition, headers_of
from fhirline.topics.declared import BUNDLE, DELIVERED, DELIVERED_SHARED, DELIVERY_LETTERS

TOPICS = (DELIVERED, DELIVERED_SHARED, DELIVERY_LETTERS)

SCHEMA = """
CREATE TABLE sent (
    resource TEXT, partition INTEGER, bundle INTEGER, digest TEXT, PRIMARY KEY (resource, partition)) WITHOUT ROWID;
CREATE TABLE refusal (
    subject TEXT, partition INTEGER, at INTEGER, code TEXT, value BLOB, PRIMARY KEY (subject, partition)) WITHOUT ROWID;
"""
SHARED = -1
"""The number for a partition of resources that come from all partitions."""


class WaitingBundle(NamedTuple):
    """A Bundle that waits. ``since``: UNIX milliseconds."""

    partition: int
    since: int
    waiting: Waiting


class DeliveryIndex:
    """Keeps its rows in the event index's database. The caller of `apply` holds ``lock``."""

    def __init__(self, database: sqlite3.Connection, lock: Lock) -> None:
        self._database = database
        self._lock = lock
        database.executescript(SCHEMA)
        self._waiting: dict[tuple[int, str], WaitingBundle] = {}
        self._ordered: set[tuple[int, str]] = set()
        self.used = False
        """True where anything was ever delivered, or waits."""

    def apply(self, message: Message) -> None:
        """Merge one record: of each resource the greatest offset stays."""
        name, value = (message.key() or b"").decode(), message.value()
        if message.topic() == DELIVERY_LETTERS:
            return self._apply_letter(message, name)
        if name == TOPIC:  # it names the topic of the offsets: nothing was sent
            return None
        partition = SHARED if message.topic() == DELIVERED_SHARED else message.partition() or 0
        self.used = True
        if name.startswith(WAITING):
            key = partition, name.removeprefix(WAITING)
            if value is None:
                self._waiting.pop(key, None)
            else:
                self._waiting[key] = WaitingBundle(partition, message.timestamp()[1], Waiting.decode(key[1], value))
        elif name.startswith(RESUME):
            order = partition, name.removeprefix(RESUME)
            self._ordered.discard(order) if value is None else self._ordered.add(order)
        elif value is None:
            self._database.execute("DELETE FROM sent WHERE resource = ? AND partition = ?", (name, partition))
        else:
            sent = decode_sent(value)
            self._database.execute(
                "INSERT INTO sent VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET bundle = excluded.bundle, "
                "digest = excluded.digest WHERE excluded.bundle >= bundle",
                (name, partition, sent.offset, sent.digest),
            )

    def _apply_letter(self, message: Message, key: str) -> None:
        """Keep the last letter of each subject: a Bundle's position, or without a Bundle whose resources they were."""
        sent, value = headers_of(message), message.value()
        if value is not None:
            self._database.execute(
                "INSERT OR REPLACE INTO refusal VALUES (?, ?, ?, ?, ?)",
                (
                    header(sent, "bundle") or key,
                    message.partition(),
                    message.timestamp()[1],
                    header(sent, ERROR_CODE) or "",
                    value,
                ),
            )

    def sent(self, resource: str, partition: int) -> Sent | None:
        """Return what was last sent of ``Type/id``. ``partition``: of its Bundles."""
        shared = resource.partition("/")[0] in SHARED_TYPES
        with self._lock:
            row = self._database.execute(
                "SELECT bundle, digest FROM sent WHERE resource = ? AND partition = ?",
                (resource, SHARED if shared else partition),
            ).fetchone()
        return Sent(*row) if row else None

    def waiting(self, partition: int, resources: Iterable[str]) -> list[Waiting]:
        """Return the Bundles that wait and have one of these resources, or are of one of these patients, in order."""
        wanted = frozenset(resources)
        found = [item.waiting for item in self.parked() if item.partition == partition]
        return sorted(
            (item for item in found if not wanted.isdisjoint(item.patients) or not wanted.isdisjoint(item.keys)),
            key=lambda item: item.offset,
        )

    def parked(self) -> list[WaitingBundle]:
        """Return the Bundles that wait."""
        with self._lock:
            return [*self._waiting.values()]

    def ordered(self) -> frozenset[tuple[int, str]]:
        """Return partition and ``Patient/id`` of patients whose waiting Bundles an operator has ordered to send."""
        with self._lock:
            return frozenset(self._ordered)

    def partitions(self) -> list[DeliveredPartition]:
        """Return the partitions of the delivery's state that have waiting Bundles, with these only."""
        found: dict[int, DeliveredPartition] = {}
        for item in self.parked():
            state = found.setdefault(item.partition, DeliveredPartition(item.partition))
            state.waiting[item.waiting.name] = item.waiting
        return [*found.values()]

    def refusal(self, item: WaitingBundle) -> tuple[int, str, bytes] | None:
        """Return time, code and value of the last dead letter about a waiting Bundle; None where there is none."""
        waiting = item.waiting
        subject = waiting.owner or str(RecordPosition(BUNDLE, item.partition, waiting.offset))
        with self._lock:
            row = self._database.execute(
                "SELECT at, code, value FROM refusal WHERE subject = ? AND partition = ?", (subject, item.partition)
            ).fetchone()
        return tuple(row) if row else None
