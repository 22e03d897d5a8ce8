"""Keep what became of each event in the index, whether it was delivered, and whether the SQL tables have it.

An event *became* one of `BECAME`. A dead letter counts until a redrive has succeeded; the other three follow from the
event's OperationOutcome. `delivery` and `tabled` follow from the offsets up to which the delivery's group and the
tables have read. `_SETTLE` has these rules. It runs once for all events when the topics have been read, and then for
those that something changed for.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import Lock

from fhirline.streams.console.delivery_index import WaitingBundle
from fhirline.streams.console.event_schema import INDEXES_OF_PROGRESS
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.operate.dead_letters.cases import Case, Status
from fhirline.topics.declared import BUNDLE, OUTCOME, canonical_topic

PROVENANCE = canonical_topic("Provenance")
NOT_SUPPORTED = "not-supported"

MAPPED, PARTLY, UNKNOWN, DEAD_LETTER = BECAME = ("mapped", "partly", "unknown", "dead-letter")
"""Events without a flag; with flags or values without a place; of a type that is not supported; in a dead letter."""
DELIVERED, WAITING, PARKED, REFUSED = DELIVERIES = ("delivered", "waiting", "parked", "refused")
"""States of an event's Bundle. One that waits behind a refused one is parked."""

COLUMNS = {PROVENANCE: "provenance", BUNDLE: "bundle", OUTCOME: "outcome"}
"""Topic → the columns with the position of an event's record there."""

AT_ONCE = 2_000
"""Events that are settled while pages wait."""

_BELOW = "{0}_offset < (SELECT next FROM progress WHERE topic = '{1}' AND partition = {0}_partition)"
_SETTLE = f"""
UPDATE event SET
    became = CASE
        WHEN EXISTS (SELECT 1 FROM letter WHERE letter.vendor = event.vendor AND letter.tenant = event.tenant
            AND letter.event_key = event.event_key) THEN '{DEAD_LETTER}'
        WHEN EXISTS (SELECT 1 FROM flag WHERE flag.event = id AND code = '{NOT_SUPPORTED}') THEN '{UNKNOWN}'
        WHEN EXISTS (SELECT 1 FROM flag WHERE flag.event = id) THEN '{PARTLY}'
        ELSE '{MAPPED}' END,
    delivery = CASE
        WHEN bundle_offset IS NULL THEN NULL
        ELSE coalesce(
            (SELECT iif(refused, '{REFUSED}', '{PARKED}') FROM parked
                WHERE parked.partition = bundle_partition AND parked.bundle_offset = event.bundle_offset),
            iif({_BELOW.format("bundle", BUNDLE)}, '{DELIVERED}', '{WAITING}')) END,
    tabled = (provenance_offset IS NOT NULL OR outcome_offset IS NOT NULL)
        AND (provenance_offset IS NULL OR coalesce({_BELOW.format("provenance", PROVENANCE)}, 0))
        AND (outcome_offset IS NULL OR coalesce({_BELOW.format("outcome", OUTCOME)}, 0))
WHERE """  # names and words of this module

Letter = tuple[str, str, str, str, str, int]
"""Case, vendor, tenant, event key, event type, and the event's receipt in UNIX milliseconds."""


class EventProgress:
    """Keeps what it knows in the event index's database. ``changed``: something was settled since it was last reset."""

    def __init__(self, database: sqlite3.Connection, lock: Lock) -> None:
        self._database = database
        self._lock = lock
        self._letters: dict[str, Letter] = {}
        self._parked: dict[tuple[int, int], bool] = {}
        self._next: dict[TopicPartition, int] = {}
        self._begun = False
        self.changed = False

    def begin(self) -> None:
        """Settle all events, the first time that it is called. Before that, no event is settled."""
        if self._begun:
            return
        self._begun = True
        with self._lock:
            ((last,),) = self._database.execute("SELECT coalesce(max(id), 0) FROM event")
        for first in range(1, last + 1, AT_ONCE):  # pages are asked for meanwhile
            with self._lock, self._database:
                self._settle("id BETWEEN ? AND ?", [(first, first + AT_ONCE - 1)])
        for statement in INDEXES_OF_PROGRESS.strip().splitlines():
            with self._lock, self._database:
                self._database.execute(statement)
        self.changed = True

    def settle(self, events: Iterable[tuple[int]]) -> None:
        """Settle anew the events whose records changed. The caller holds the lock."""
        self._settle("id = ?", events)

    def take_cases(self, cases: Collection[Case]) -> None:
        """Take all dead letters. Those of a successful redrive count no more."""
        now = {case.id: _letter(case) for case in cases if case.status is not Status.DONE}
        if now == self._letters:
            return
        differing = {*now.values()} ^ {*self._letters.values()}
        with self._lock, self._database:
            self._database.executemany("DELETE FROM letter WHERE id = ?", {(letter[0],) for letter in differing})
            new = [letter for letter in differing if now.get(letter[0]) == letter]
            self._database.executemany("INSERT INTO letter VALUES (?, ?, ?, ?, ?, ?)", new)
            self._settle("vendor = ? AND tenant = ? AND event_key = ?", {letter[1:4] for letter in differing})
        self._letters = now

    def take_parked(self, waiting: Iterable[WaitingBundle]) -> None:
        """Take the Bundles that the delivery has put aside. What a first fill put aside has no Bundle."""
        now = {
            (item.partition, item.waiting.offset): item.waiting.refused for item in waiting if not item.waiting.owner
        }
        places = {place for place, _ in now.items() ^ self._parked.items()}
        if not places:
            return
        with self._lock, self._database:
            self._database.executemany("DELETE FROM parked WHERE partition = ? AND bundle_offset = ?", places)
            new = [(*place, now[place]) for place in places if place in now]
            self._database.executemany("INSERT INTO parked VALUES (?, ?, ?)", new)
            self._settle("bundle_partition = ? AND bundle_offset = ?", places)
        self._parked = now

    def take_offsets(self, topics: Collection[str], now: Mapping[TopicPartition, int]) -> None:
        """Take the offsets up to which topics have been read: of `BUNDLE` by the delivery, else by the tables."""
        known = [place for place in {*self._next, *now} if place.topic in topics and place.topic in COLUMNS]
        for place in sorted(known):
            before, then = self._next.get(place, 0), now.get(place, 0)
            if before == then:
                continue
            with self._lock, self._database:  # a partition at a time: pages are asked for meanwhile
                self._database.execute("INSERT OR REPLACE INTO progress VALUES (?, ?, ?)", (*place, then))
                name = COLUMNS[place.topic]
                within = f"{name}_partition = ? AND {name}_offset >= ? AND {name}_offset < ?"
                self._settle(within, [(place.partition, min(before, then), max(before, then))])
            self._next[place] = then

    def _settle(self, condition: str, values: Iterable[Sequence[int | str]]) -> None:
        if self._begun:
            self._database.executemany(_SETTLE + condition, values)  # conditions are of this class
            self.changed = True


def _letter(case: Case) -> Letter:
    last = case.last
    received = last.received.milliseconds if last.received else 0
    return case.id, last.vendor, last.tenant, last.event_key, last.event_type, received or 0
