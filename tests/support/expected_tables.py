"""Compute from the topics what the tables of ``fhirline tables`` must hold, and compare it with what they hold.

The expectation reads the topics by itself. Rows of the tables that views make come from the views, which have tests of
their own (tests/streams/tables/views), rows of eight of them from code that a person wrote, and ``record``,
``event_flag`` and ``event`` are computed here from headers and JSON.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import EVENT_KEY, TENANT, VENDOR, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, from_confluent
from fhirline.streams.tables.column_types import INSTANT, kind_of
from fhirline.streams.tables.table import table_of
from fhirline.streams.tables.topics import TOPICS
from fhirline.streams.tables.views import load_views
from fhirline.topics.declared import OUTCOME
from tests.streams.tables.views import test_independent as by_hand
from tests.support.cases import BASE

Rows = Counter[str]
"""The rows of a table as texts, counted."""

BY_HAND = {
    "patient": by_hand.patient,
    "encounter_status_history": by_hand.encounter_status_history,
    "appointment": by_hand.appointment,
    "observation": by_hand.observation,
    "dosage": by_hand.dosage,
    "questionnaire_answer": by_hand.questionnaire_answer,
    "lineage": by_hand.lineage,
    "resource_flag": by_hand.resource_flag,
}
FLAGS = f"{BASE}/CodeSystem/data-quality"


def expected(settings: Settings) -> dict[str, Rows]:
    """Compute every table from what the topics hold now."""
    folders = () if settings.tables_views is None else (settings.tables_views,)
    newest: dict[tuple[str, bytes], ConsumerRecord] = {}
    events_of: dict[bytes, tuple[str | None, ...]] = {}
    with Scanner(settings) as scanner:
        for message in scanner.read(dict.fromkeys(scanner.topic_partitions(TOPICS))):
            record = from_confluent(message)
            newest[record.topic, record.key or b""] = record
            if record.value is not None:
                events_of[record.key or b""] = _event(record)
    erased = {events_of[key] for (topic, key), item in newest.items() if "Prov" in topic and item.value is None}
    living = [
        (record, orjson.loads(record.value))
        for (topic, _), record in newest.items()
        if record.value is not None and not (topic == OUTCOME and _event(record) in erased)
    ]
    found: dict[str, Rows] = {"record": Counter(), "event_flag": Counter(), "event": Counter()}
    for view in load_views(*folders, base=BASE).values():
        kinds = [kind_of(column) for column in table_of(view).columns]
        names = [column.name for column in view.columns]
        rows = found[view.name] = Counter()
        for _, resource in living:
            if not view.has_rows_of(resource["resourceType"]):
                continue
            if view.name in BY_HAND and not folders:
                made = [tuple(row[name] for name in names) for row in BY_HAND[view.name](resource)]
            else:
                made = view.rows(resource)
            for row in made:
                rows[
                    text([at(value) if kind == INSTANT else value for kind, value in zip(kinds, row, strict=True)])
                ] += 1
    events: dict[tuple[Any, ...], dict[str, Any]] = {}
    flags: dict[tuple[Any, ...], dict[str, bool]] = {}
    for record, resource in living:
        headers = {name: value.decode() for name, value in record.headers}
        key = (record.key or b"").decode()
        written = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
        event = (headers["vendor"], headers["tenant"], headers["event-key"])
        found["record"][
            text(
                [
                    *(key, *key.split("/"), record.topic, record.partition, record.offset, written),
                    *(headers[name] for name in ("vendor", "tenant", "event-type", "event-key", "raw")),
                    *(headers["mapping-version"], headers["tables-version"], at(headers["occurred-at"])),
                ]
            )
        ] += 1
        for number, (source, flag, severity, places) in enumerate(_flags(resource), 1):
            found["event_flag"][text([key, number, source, *event, flag, severity, places])] += 1
            serious = severity in ("warning", "error", "fatal")
            flags.setdefault(event, {})[flag] = flags.get(event, {}).get(flag, False) or serious
        if resource["resourceType"] in ("Provenance", "OperationOutcome"):
            known = events.get(event)
            kind = resource["resourceType"]  # of two Provenances, the one with the least key: rounds of the same events
            if known is None or kind > known["type"] or (kind == known["type"] and key < known["key"]):
                occurred = at(headers["occurred-at"])
                assert occurred is not None
                events[event] = {
                    "type": resource["resourceType"],
                    "key": key,
                    "row": [
                        *(headers["vendor"], headers["tenant"], headers["event-type"], headers["event-key"]),
                        *(headers["raw"], headers["mapping-version"], occurred, written),
                        round((written - occurred).total_seconds(), 3),
                        resource["resourceType"] == "Provenance",
                    ],
                }
    for event, named in events.items():
        own = flags.get(event, {})
        found["event"][text([*named["row"], sum(own.values()), " ".join(sorted(own)) or None])] += 1
    return found


def _event(record: ConsumerRecord) -> tuple[str | None, ...]:
    return tuple(header(record.headers, name) for name in (VENDOR, TENANT, EVENT_KEY))


def _flags(resource: dict[str, Any]) -> Iterator[tuple[str, str, str | None, str | None]]:
    if resource["resourceType"] == "OperationOutcome":
        for issue in resource["issue"]:
            [coding] = issue["details"]["coding"]
            assert coding["system"] == FLAGS
            yield "issue", coding["code"], issue["severity"], "\n".join(issue.get("expression", [])) or None
    else:
        for tag in resource["meta"]["tag"]:
            if tag["system"] == FLAGS:
                yield "tag", tag["code"], None, None


def at(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def text(row: Iterable[Any]) -> str:
    """Write a row so that rows of both databases and expected ones can be compared."""
    return orjson.dumps([_plain(value) for value in row]).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return value


def different(found: Mapping[str, Rows], wanted: Mapping[str, Rows]) -> dict[str, str]:
    """Return how tables differ from the expected ones: how many rows are missing, how many are too many."""
    return {
        name: f"{(wanted[name] - found.get(name, Counter())).total()} missing, "
        f"{(found.get(name, Counter()) - wanted[name]).total()} too many of {wanted[name].total()}"
        for name in wanted
        if found.get(name) != wanted[name]
    }


def held(rows: Any, schema: str = "fhir") -> dict[str, Rows]:
    """Return the tables of a database. ``rows``: runs a statement and returns its rows."""
    names = [
        name
        for (name,) in rows(f"select table_name from information_schema.tables where table_schema = '{schema}'")
        if not name.startswith("_")
    ]
    return {name: Counter(map(_held_row(name), rows(f'select * from {schema}."{name}"'))) for name in names}


def _held_row(name: str) -> Any:
    if name != "event":
        return text
    return lambda row: text([round(value, 3) if number == 8 else value for number, value in enumerate(row)])


def duck_rows(path: Path) -> Any:
    """Return a function that runs a statement on a closed DuckDB file."""
    import duckdb

    def rows(statement: str) -> list[Any]:
        with duckdb.connect(str(path), read_only=True) as connection:
            return connection.execute(statement).fetchall()

    return rows
