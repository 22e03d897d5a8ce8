"""An index of all events, from the topics that tell what became of them. It holds no patient data.

A Provenance has an event's key, type and raw position in its headers, and what the event made as its targets. The
event's Bundle and outcome are found by the same headers, and the outcome has its flags. The index is a temporary SQLite
database, which is gone with the process: the topics have all of it.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.mappers.identity import Naming, key
from fhirline.streams.console.delivery_index import TOPICS, DeliveryIndex
from fhirline.streams.console.event_listing import MINUTE_MS, EventListing
from fhirline.streams.console.event_progress import COLUMNS, PROVENANCE, EventProgress
from fhirline.streams.console.event_schema import SCHEMA
from fhirline.streams.console.index_entries import MOST_LISTED, IndexedEvent, TypeCount, flags_of, received_at
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import TopicPartition, headers_of, partition_of, position_of
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.dead_letters.cases import Case
from fhirline.streams.operate.trace.find import targets
from fhirline.streams.tables.topics import TOPICS as TABLED_TOPICS
from fhirline.topics.declared import BUNDLE, DEAD_LETTER_STATUS, OUTCOME

log = structlog.get_logger()

STALE = "stale-event"

_COLUMNS = ", ".join(IndexedEvent._fields)


class EventIndex:
    """Reads on from the topics' ends in one thread, and answers in any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._naming = Naming(settings.base, settings.server_base or "")
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", check_same_thread=False)  # a private file that is gone at the end
        self._database.executescript(SCHEMA)
        self.deliveries = DeliveryIndex(self._database, self._lock)
        self.progress = EventProgress(self._database, self._lock)
        self.listing = EventListing(self._database, self._lock)
        self._positions: dict[TopicPartition, int | None] = {}
        self.cases: Sequence[Case] = ()
        """Every dead letter's case, as of the last reading."""
        self.types: Sequence[TypeCount] = ()
        """Counts of events by vendor and event type, as of the last reading: counting 100,000 takes a moment."""
        self._minute = 0
        self.tables_asked = False
        """True where it is known how far the SQL tables have read."""
        self.complete = False
        """True where the topics have been read to their ends once."""

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def following(self) -> Iterator[Callable[[], None]]:
        """Open the clients, and yield the call that reads on. Raises KafkaAccessError."""
        vendors = load_vendors(self._settings.vendors_file).names
        with LogScanner(self._settings) as scanner, Board(self._settings, vendors) as board:

            def read_on() -> None:
                self._read(scanner)
                if scanner.partitions(DEAD_LETTER_STATUS):
                    self.cases = board.read()
                    self.progress.take_cases(self.cases)
                self.progress.take_parked(self.deliveries.parked())
                self.complete = True

            yield read_on

    def take_offsets(
        self, delivered: Mapping[TopicPartition, int], tabled: Mapping[TopicPartition, int] | None
    ) -> None:
        """Take how far the delivery's group and the tables have read, and count the events anew where that matters.

        ``tabled``: None where it cannot be asked at the moment: then what was known stays.
        """
        self.progress.take_offsets([BUNDLE], delivered)
        if tabled is not None:
            self.progress.take_offsets(TABLED_TOPICS, tabled)
            self.tables_asked = True
        self.progress.begin()
        now_ms = time.time_ns() // 1_000_000
        if self.progress.changed or self._minute != now_ms // MINUTE_MS:  # the last hour changes with the minute
            self.progress.changed, self._minute = False, now_ms // MINUTE_MS
            self.types = self.listing.type_counts(now_ms)

    def _read(self, scanner: LogScanner) -> None:
        """Read on to the ends."""
        partitions = scanner.topic_partitions([PROVENANCE, BUNDLE, OUTCOME, *TOPICS])
        starts = {partition: self._positions.get(partition) for partition in partitions}
        batch: list[Message] = []
        for message in scanner.stored(starts):
            batch.append(message)
            if len(batch) == 1_000:
                self._add(batch)
                batch.clear()
        self._add(batch)

    def _add(self, messages: Sequence[Message]) -> None:
        with self._lock, self._database:
            for message in messages:
                try:
                    self._apply(message)
                except (ValueError, TypeError, AttributeError, LookupError) as error:  # of another producer
                    log.warning("record not read", position=str(position_of(message)), error=type(error).__name__)
                self._positions[partition_of(message)] = (message.offset() or 0) + 1

    def _apply(self, message: Message) -> None:
        topic, value = message.topic(), message.value()
        if topic in TOPICS:
            self.deliveries.apply(message)
            return
        if topic == PROVENANCE and value is None:
            self._forget(message.key() or b"")
            return
        if topic == OUTCOME and value is None:
            self._remove_outcome(message.key() or b"")
            return
        sent = headers_of(message)
        names = (headers.EVENT_KEY, headers.VENDOR, headers.TENANT, headers.EVENT_TYPE)
        event_key, vendor, tenant, type_ = (header(sent, name) for name in names)
        if value is None or event_key is None or vendor is None:
            return
        received, made = None, list[str]()  # a value that is no such resource adds nothing
        found: dict[str, list[str]] = {}
        if topic == PROVENANCE:
            received, made = received_at(value), list(dict.fromkeys(targets(value)))
        elif topic == OUTCOME:
            found = flags_of(value)
        provenance_key = message.key() if topic == PROVENANCE else self._provenance_key(vendor, tenant or "", event_key)
        if topic == PROVENANCE:
            self._database.execute("DELETE FROM erased WHERE provenance_key = ?", (provenance_key,))
        elif self._database.execute("SELECT 1 FROM erased WHERE provenance_key = ?", (provenance_key,)).fetchone():
            return  # topics are read in any order, and outcomes stay until their retention ends
        column = COLUMNS[topic or ""]
        names_of = (
            "event_key, vendor, tenant, type, raw, occurred, written, mapping, provenance_key, "
            f"{column}, {column}_partition, {column}_offset"
        )
        (event,) = self._database.execute(
            f"INSERT INTO event ({names_of}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "  # columns of one topic
            "ON CONFLICT (vendor, tenant, event_key) DO UPDATE SET raw = excluded.raw, mapping = excluded.mapping, "
            f"written = max(written, excluded.written), {column} = excluded.{column}, "
            f"{column}_partition = excluded.{column}_partition, {column}_offset = excluded.{column}_offset "
            "RETURNING id",
            (
                event_key,
                vendor,
                tenant or "",
                type_ or "",
                header(sent, headers.RAW),
                header(sent, headers.OCCURRED_AT),
                message.timestamp()[1],
                header(sent, headers.MAPPING_VERSION),
                provenance_key,
                str(position_of(message)),
                message.partition(),
                message.offset(),
            ),
        ).fetchone()
        if topic == PROVENANCE:
            self._database.execute(
                "UPDATE event SET provenance_key = ?, received = ? WHERE id = ?",
                (provenance_key, received, event),
            )
            self._database.execute("DELETE FROM target WHERE event = ?", (event,))
            self._database.executemany("INSERT INTO target VALUES (?, ?)", [(resource, event) for resource in made])
        elif topic == OUTCOME:
            self._database.execute("UPDATE event SET outcome_key = ? WHERE id = ?", (message.key(), event))
            self._database.execute("DELETE FROM flag WHERE event = ?", (event,))
            self._database.executemany("INSERT INTO flag VALUES (?, ?)", [(event, code) for code in found])
            self._database.execute("DELETE FROM newer WHERE event = ?", (event,))
            newer = {(event, resource) for resource in found.get(STALE, ())}
            self._database.executemany("INSERT INTO newer VALUES (?, ?)", newer)
        self.progress.settle([(event,)])

    def _provenance_key(self, vendor: str, tenant: str, event_key: str) -> bytes:
        """Return the key of an event's Provenance (mapping.md §4.1)."""
        return f"Provenance/{self._naming.id(vendor, tenant, 'Provenance', 'event', key(event_key))}".encode()

    def _forget(self, provenance_key: bytes) -> None:
        """Remove the event whose Provenance became a tombstone: its patient was erased."""
        self._database.execute("INSERT OR IGNORE INTO erased VALUES (?)", (provenance_key,))
        found = self._database.execute("SELECT id FROM event WHERE provenance_key = ?", (provenance_key,)).fetchall()
        for table, column in (("target", "event"), ("flag", "event"), ("newer", "event"), ("event", "id")):
            self._database.executemany(f"DELETE FROM {table} WHERE {column} = ?", found)  # names above
        self.progress.changed = True

    def _remove_outcome(self, outcome_key: bytes) -> None:
        """Remove an OperationOutcome that got a null value, and the event of which nothing else is known."""
        found = self._database.execute("SELECT id FROM event WHERE outcome_key = ?", (outcome_key,)).fetchall()
        for statement in (
            "DELETE FROM flag WHERE event = ?",
            "DELETE FROM newer WHERE event = ?",
            "UPDATE event SET outcome = NULL, outcome_partition = NULL, outcome_offset = NULL, outcome_key = NULL "
            "WHERE id = ?",
            "DELETE FROM event WHERE id = ? AND provenance IS NULL AND bundle IS NULL",
        ):
            self._database.executemany(statement, found)
        self.progress.settle(found)

    # -- answers

    def by_name(self, vendor: str, tenant: str, event_key: str) -> IndexedEvent | None:
        """Return the event with a key of a tenant."""
        found = self._events("WHERE vendor = ? AND tenant = ? AND event_key = ?", vendor, tenant, event_key)
        return next(iter(found), None)

    def by_key(self, event_key: str) -> list[IndexedEvent]:
        """Return the event with a key. Byte-equal events of several tenants have one."""
        return self._events("WHERE event_key = ?", event_key)

    def by_raw(self, position: str) -> list[IndexedEvent]:
        """Return the event whose raw record is at a position."""
        return self._events("WHERE raw = ?", position)

    def of_resource(self, resource: str) -> list[IndexedEvent]:
        """Return the newest `MOST_LISTED` events that have ``Type/id`` as a target. A Provenance is of one event."""
        return self._events(
            "WHERE id IN (SELECT event FROM target WHERE resource = ? "
            "UNION SELECT id FROM event WHERE provenance_key = ?) ORDER BY written DESC LIMIT ?",
            *(resource, resource.encode(), MOST_LISTED),
        )

    def targets(self, event: int) -> list[str]:
        """Return the targets of an event's Provenance, in their order."""
        return [resource for (resource,) in self._ask("SELECT resource FROM target WHERE event = ?", event)]

    def made(self, event: int) -> list[str]:
        """Return the targets of an event without those that a newer event had written before."""
        newer = set(self.newer(event))
        return [resource for resource in self.targets(event) if resource not in newer]

    def newer(self, event: int) -> list[str]:
        """Return the targets of an event that it left as a newer event had written them."""
        asked = "SELECT resource FROM target JOIN newer USING (event, resource) WHERE event = ? ORDER BY target.rowid"
        return [resource for (resource,) in self._ask(asked, event)]

    def bundles_with(self, resource: str) -> list[str]:
        """Return the newest `MOST_LISTED` Bundles that have ``Type/id``."""
        rows = self._ask(
            "SELECT bundle FROM event JOIN target ON event = id WHERE resource = ? AND bundle IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM newer WHERE newer.event = id AND newer.resource = target.resource) "
            "ORDER BY written DESC LIMIT ?",
            *(resource, MOST_LISTED),
        )
        return [bundle for (bundle,) in rows]

    def flags(self, event: int) -> list[str]:
        """Return the codes of an event's flags."""
        return [code for (code,) in self._ask("SELECT code FROM flag WHERE event = ? ORDER BY code", event)]

    def letters(self, event_key: str) -> list[Case]:
        """Return the dead letters of an event."""
        return [case for case in self.cases if case.last.event_key == event_key]

    def _events(self, condition: str, *values: str | int | bytes) -> list[IndexedEvent]:
        return [
            IndexedEvent._make(row) for row in self._ask(f"SELECT {_COLUMNS} FROM event {condition}", *values)
        ]  # conditions are of this class

    def _ask(self, statement: str, *values: str | int | bytes) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()
