"""Loads the canonical topics into PostgreSQL as a good engineer would: what ``fhirline tables`` is measured against.

It reads the same topics with confluent-kafka, and with psycopg writes batches of the same size: newest record of each
key, delete by id, COPY, the offsets in the same transaction. Its nine tables are written by hand: `record`, and those
eight whose rows the tests make independently of the views. They have our columns, so that both can be compared.

In its favour: nine tables instead of thirty-one, no views to interpret, no check of keys, types or sizes, no flags of
events, no comments, no metrics, no second writer, no topics that were made anew.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
from confluent_kafka import Consumer, Message, TopicPartition

from fhirline.streams.tables.built_in import RECORD
from fhirline.streams.tables.column_types import kind_of
from fhirline.streams.tables.postgres import PostgresStore
from fhirline.streams.tables.table import table_of
from fhirline.streams.tables.topics import TOPICS
from fhirline.streams.tables.views import load_views
from tests.support.cases import BASE
from tests.support.expected_tables import BY_HAND

BATCH = int(os.environ.get("FHIRLINE_TABLES_BATCH") or 5_000)
HEADERS = ("vendor", "tenant", "event-type", "event-key", "raw", "mapping-version", "tables-version", "occurred-at")

VIEWS = {name: view for name, view in load_views(base=BASE).items() if name in BY_HAND}
COLUMNS = {name: [column.name for column in view.columns] for name, view in VIEWS.items()}
"""Column names of the tables by hand: they are written out once, in our views."""


def main() -> None:
    with psycopg.connect(os.environ["PLAIN_URL"], password=os.environ["PLAIN_PASSWORD"]) as connection:
        create(connection)
        consumer = Consumer(
            {"bootstrap.servers": os.environ["FHIRLINE_BOOTSTRAP"], "group.id": "plain", "enable.auto.commit": False}
        )
        known = consumer.list_topics(timeout=30).topics
        places = [TopicPartition(topic, number, 0) for topic in TOPICS for number in known[topic].partitions]
        consumer.assign(places)
        while True:
            if messages := [message for message in consumer.consume(BATCH, 0.5) if message.error() is None]:
                load(connection, messages)


def create(connection: "psycopg.Connection[Any]") -> None:
    types = PostgresStore.types
    connection.execute("create schema plain")
    connection.execute(
        "create table plain._positions (topic text, partition int, next bigint, primary key (topic, partition))"
    )
    for table in (RECORD, *(table_of(view) for view in VIEWS.values())):
        columns = [
            f'"{column.name}" {types[kind_of(column)]}{"[]" if column.collection else ""}' for column in table.columns
        ]
        key = f"primary key ({', '.join(table.key)})"
        connection.execute(f'create table plain."{table.name}" ({", ".join(columns)}, {key})')
        if table.key[0] != table.id_column:
            connection.execute(f'create index on plain."{table.name}" ("{table.id_column}")')
    connection.commit()


def load(connection: "psycopg.Connection[Any]", messages: Iterable[Message]) -> None:
    newest: dict[str, Message] = {}
    positions: dict[tuple[str, int], int] = {}
    for message in messages:
        topic, partition, offset = coordinates(message)
        newest[(message.key() or b"").decode()] = message
        positions[topic, partition] = offset + 1
    ids: dict[str, list[str]] = {name: [] for name in ("record", *VIEWS)}
    rows: dict[str, list[Any]] = {name: [] for name in ("record", *VIEWS)}
    for key, message in newest.items():
        resource_type, _, id = key.partition("/")
        views = [name for name, view in VIEWS.items() if view.has_rows_of(resource_type)]
        ids["record"].append(key)
        for name in views:
            ids[name].append(id)
        if (value := message.value()) is None:
            continue
        resource = orjson.loads(value)
        found: Any = message.headers() or ()
        headers = {name: content.decode() for name, content in found}
        place = (*coordinates(message), timestamp(message))
        rows["record"].append((key, resource_type, id, *place, *map(headers.get, HEADERS)))
        for name in views:
            columns = COLUMNS[name]
            rows[name] += [[row[column] for column in columns] for row in BY_HAND[name](resource)]
    with connection.transaction(), connection.cursor() as cursor:
        for name, wanted in ids.items():
            id_column = "record_key" if name == "record" else "resource_id"
            cursor.execute(f'delete from plain."{name}" where {id_column} = any(%s)', [wanted])
            if rows[name]:
                with cursor.copy(f'copy plain."{name}" from stdin') as copy:
                    for row in rows[name]:
                        copy.write_row(row)
        cursor.executemany(
            "insert into plain._positions values (%s, %s, %s) "
            "on conflict (topic, partition) do update set next = excluded.next",
            [(*place, offset) for place, offset in positions.items()],
        )


def coordinates(message: Message) -> tuple[str, int, int]:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return topic, partition, offset


def timestamp(message: Message) -> str:
    return datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC).isoformat()


if __name__ == "__main__":
    main()
