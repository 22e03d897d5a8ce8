"""List and count the events of the index by what was chosen: vendor, event type, flag, and what became of them."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from statistics import median
from threading import Lock
from typing import Any, NamedTuple, Self

from fhirline.mappers.instants import Instant
from fhirline.streams.console.event_progress import BECAME, DEAD_LETTER, DELIVERIES
from fhirline.streams.console.index_entries import (
    ANY_FLAG,
    LATEST,
    MINUTES,
    IndexedEvent,
    LastHour,
    ListedEvent,
    TypeCount,
    event_address,
    letter_address,
)

TABLED = "in"
"""Value of ``Chosen.tables``: the events that the SQL tables have."""
MINUTE_MS = 60_000

_COLUMNS = ", ".join(f"event.{name}" for name in IndexedEvent._fields)
_COUNTED = (
    "SELECT vendor, type, became, count(*) FROM event WHERE became <> ? GROUP BY vendor, type, became "
    "UNION ALL SELECT vendor, type, ?, count(*) FROM letter GROUP BY vendor, type"
)
_CAME = (
    f"SELECT (came - ?) / {MINUTE_MS}, count(*) FROM event "
    f"WHERE vendor = ? AND type = ? AND came >= ? AND became <> '{DEAD_LETTER}' GROUP BY 1 "
    f"UNION ALL SELECT (received - ?) / {MINUTE_MS}, count(*) FROM letter "
    "WHERE vendor = ? AND type = ? AND received >= ? GROUP BY 1"
)


class Chosen(NamedTuple):
    """A choice of events. An empty text is no condition. ``flag``: a code, or `ANY_FLAG`. ``since``: RFC 3339.

    Without ``flag``, ``delivery`` and ``tables``, a dead letter stands for its event, even if a part of the event was
    published: so each event counts once.
    """

    vendor: str = ""
    type: str = ""
    flag: str = ""
    became: str = ""
    delivery: str = ""
    tables: str = ""
    since: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Read a page's query. Raises ValueError for an unknown choice."""
        chosen = cls(*(query.get(name, "") for name in cls._fields))
        for value, known in ((chosen.became, BECAME), (chosen.delivery, DELIVERIES), (chosen.tables, (TABLED,))):
            if value and value not in known:
                raise ValueError(f"choose one of {', '.join(known)}")
        if chosen.since and Instant.parse(chosen.since) is None:
            raise ValueError("since is no time of RFC 3339")
        return chosen

    @property
    def since_ms(self) -> int:
        """Return ``since`` in UNIX milliseconds; 0 where nothing was chosen."""
        found = Instant.parse(self.since)
        return 0 if found is None else found.milliseconds

    @property
    def letters(self) -> bool:
        """Tell whether dead letters are among what is chosen."""
        return not (self.flag or self.delivery or self.tables) and self.became in ("", DEAD_LETTER)

    @property
    def conditions(self) -> tuple[str, list[str | int]]:
        """Return the conditions on events, and their values."""
        flagged = "id IN (SELECT event FROM flag WHERE code = ?)"
        found: list[tuple[str, str | int]] = [
            (condition, value)
            for condition, value in (
                ("vendor = ?", self.vendor),
                ("type = ?", self.type),
                (flagged, "" if self.flag == ANY_FLAG else self.flag),
                ("became = ?", self.became),
                ("delivery = ?", self.delivery),
                ("came >= ?", self.since_ms),
            )
            if value
        ]
        own = [condition for condition, _ in found]
        own += ["id IN (SELECT event FROM flag)"] if self.flag == ANY_FLAG else []
        own += ["tabled"] if self.tables else []
        own += [f"became <> '{DEAD_LETTER}'"] if self.letters else []
        return " AND ".join(own) or "1", [value for _, value in found]

    @property
    def of_letters(self) -> tuple[str, list[str | int]]:
        """Return the conditions on dead letters, and their values."""
        asked = (("vendor = ?", self.vendor), ("type = ?", self.type), ("received >= ?", self.since_ms))
        found = [(condition, value) for condition, value in asked if value]
        return " AND ".join(f"letter.{condition}" for condition, _ in found) or "1", [value for _, value in found]


class EventListing:
    """Answers in any thread, from the event index's database."""

    def __init__(self, database: sqlite3.Connection, lock: Lock) -> None:
        self._database = database
        self._lock = lock

    def newest(self, chosen: Chosen, limit: int) -> list[ListedEvent]:
        """List the newest of the chosen events: the last written ones, with ``since`` the last received ones."""
        where, values = chosen.conditions
        order = "came" if chosen.since else "written"
        asked = f"SELECT {_COLUMNS} FROM event WHERE {where} ORDER BY {order} DESC LIMIT ?"
        events = [IndexedEvent._make(row) for row in self._ask(asked, *values, limit)]
        found = self.listed(events)
        if chosen.since:
            found = [item._replace(at=event.came) for item, event in zip(found, events, strict=True)]
        if chosen.letters:
            found = sorted([*found, *self._letters(chosen, limit)], key=lambda event: event.at, reverse=True)
        return found[:limit]

    def count(self, chosen: Chosen) -> int:
        """Count the chosen events."""
        where, values = chosen.conditions
        ((count,),) = self._ask(f"SELECT count(*) FROM event WHERE {where}", *values)
        if chosen.letters:
            where, values = chosen.of_letters
            ((letters,),) = self._ask(f"SELECT count(*) FROM letter WHERE {where}", *values)
            count += letters
        return int(count)

    def listed(self, events: Iterable[IndexedEvent]) -> list[ListedEvent]:
        """Make rows of events, with their flags and their dead letters."""
        return [
            ListedEvent(
                event.event_key[:12],
                event.address,
                event.vendor,
                event.tenant,
                event.type,
                event.written,
                self._flags(event.id),
                self._letter_of(event),
            )
            for event in events
        ]

    def type_counts(self, now_ms: int) -> list[TypeCount]:
        """Count the events by vendor and event type. It takes a moment: keep the answer.

        ``now_ms``: the present in UNIX milliseconds, when the last hour ends.
        """
        became, delivery = defaultdict[tuple[str, str], Counter[str]](Counter), defaultdict[Any, Counter[str]](Counter)
        for vendor, type_, name, count in self._ask(_COUNTED, DEAD_LETTER, DEAD_LETTER):
            became[vendor, type_][name] = count
        asked = "SELECT vendor, type, delivery, count(*) FROM event WHERE delivery IS NOT NULL GROUP BY 1, 2, 3"
        for vendor, type_, name, count in self._ask(asked):
            delivery[vendor, type_][name] = count
        asked = "SELECT vendor, type, count(*) FROM event WHERE tabled GROUP BY 1, 2"
        tabled = {(vendor, type_): count for vendor, type_, count in self._ask(asked)}
        return [
            TypeCount(
                *(*of, counted, delivery[of], tabled.get(of, 0), newest[0]),
                median(latencies) if (latencies := [seconds for _, seconds in self._latencies(*of)]) else None,
                self._hour(*of, now_ms),
            )
            for of, counted in sorted(became.items())
            if (newest := self.newest(Chosen(*of), 1))
        ]

    def slowest(self, vendor: str, type_: str) -> list[tuple[ListedEvent, float]]:
        """List the last `LATEST` events of a type with the latency of each in seconds, the slowest first."""
        found = sorted(self._latencies(vendor, type_), key=lambda item: item[1], reverse=True)
        return list(zip(self.listed(event for event, _ in found), [seconds for _, seconds in found], strict=True))

    def _letters(self, chosen: Chosen, limit: int) -> list[ListedEvent]:
        where, values = chosen.of_letters
        rows: list[tuple[Any, ...]] = self._ask(
            "SELECT letter.id, vendor, tenant, event_key, letter.type, letter.received, event.id FROM letter "
            f"LEFT JOIN event USING (vendor, tenant, event_key) WHERE {where} ORDER BY letter.received DESC LIMIT ?",
            *(*values, limit),
        )
        return [
            ListedEvent(
                event_key[:12] or case,
                letter_address(case) if event is None else event_address(vendor, tenant, event_key),
                *(vendor, tenant, type_, received),
                self._flags(event),
                letter_address(case),
            )
            for case, vendor, tenant, event_key, type_, received, event in rows
        ]

    def _letter_of(self, event: IndexedEvent) -> str:
        asked = "SELECT id FROM letter WHERE vendor = ? AND tenant = ? AND event_key = ? LIMIT 1"
        found = self._ask(asked, event.vendor, event.tenant, event.event_key)
        return letter_address(found[0][0]) if found else ""

    def _flags(self, event: int | None) -> tuple[str, ...]:
        return tuple(code for (code,) in self._ask("SELECT code FROM flag WHERE event = ? ORDER BY code", event))

    def _latencies(self, vendor: str, type_: str) -> list[tuple[IndexedEvent, float]]:
        rows = self._ask(
            f"SELECT {_COLUMNS} FROM event WHERE vendor = ? AND type = ? AND received IS NOT NULL "
            f"ORDER BY written DESC LIMIT {LATEST}",
            *(vendor, type_),
        )
        return [(event, max(0, event.written - event.came) / 1000) for event in map(IndexedEvent._make, rows)]

    def _hour(self, vendor: str, type_: str, now_ms: int) -> LastHour:
        """Count the events of the present minute and of those before it. A receipt in the future counts as now."""
        since = (now_ms // MINUTE_MS - MINUTES + 1) * MINUTE_MS
        minutes = [0] * MINUTES
        for minute, count in self._ask(_CAME, *(since, vendor, type_, since) * 2):
            minutes[min(minute, MINUTES - 1)] += count
        return LastHour(datetime.fromtimestamp(since / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), minutes)

    def _ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()
