"""What was sent of each resource to the FHIR server, and what waits, by `streams.deliver.state`."""

import sqlite3
from collections.abc import Iterable
from threading import Lock

from confluent_kafka import Message

from fhirline.streams.deliver.entries import SHARED_TYPES
from fhirline.streams.deliver.state import RESUME, WAITING, Sent, Waiting, decode_sent
from fhirline.topics.declared import DELIVERED, DELIVERED_SHARED

TOPICS = (DELIVERED, DELIVERED_SHARED)

SCHEMA = """
CREATE TABLE sent (
    resource TEXT, partition INTEGER, bundle INTEGER, digest TEXT, PRIMARY KEY (resource, partition)) WITHOUT ROWID;
"""
SHARED = -1
"""Stands for the partition of resources that come from all partitions."""


class DeliveryIndex:
    """Keeps its rows in the event index's database. The caller of `apply` holds ``lock``."""

    def __init__(self, database: sqlite3.Connection, lock: Lock) -> None:
        self._database = database
        self._lock = lock
        database.executescript(SCHEMA)
        self._waiting: dict[tuple[int, str], Waiting] = {}
        self.used = False
        """Whether anything was ever delivered, or waits."""

    def apply(self, message: Message) -> None:
        """Merge one record: of each resource the greatest offset stays."""
        name, value = (message.key() or b"").decode(), message.value()
        partition = SHARED if message.topic() == DELIVERED_SHARED else message.partition() or 0
        self.used = True
        if name.startswith(WAITING):
            key = partition, name.removeprefix(WAITING)
            if value is None:
                self._waiting.pop(key, None)
            else:
                self._waiting[key] = Waiting.decode(key[1], value)
        elif name.startswith(RESUME):
            return
        elif value is None:
            self._database.execute("DELETE FROM sent WHERE resource = ? AND partition = ?", (name, partition))
        else:
            sent = decode_sent(value)
            self._database.execute(
                "INSERT INTO sent VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET bundle = excluded.bundle, "
                "digest = excluded.digest WHERE excluded.bundle >= bundle",
                (name, partition, sent.offset, sent.digest),
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
        found = [item for (number, _), item in list(self._waiting.items()) if number == partition]
        return sorted(
            (item for item in found if not wanted.isdisjoint(item.patients) or not wanted.isdisjoint(item.keys)),
            key=lambda item: item.offset,
        )
