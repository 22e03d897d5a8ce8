"""A process that begins while another one commits the first rows and positions: nobody has deleted anything."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.tables import schema
from fhirline.streams.tables.altered import require_positions
from fhirline.streams.tables.built_in import RECORD
from fhirline.streams.tables.positions import Move, move
from fhirline.streams.tables.postgres import PostgresStore
from fhirline.streams.tables.views.view import Row
from tests.support.postgres import Database, Postgres

pytestmark = pytest.mark.long

STATEMENTS = 4
"""Statements of the check where a table has a row: the known tables, whether one exists, its rows, the positions."""


class Interrupted(PostgresStore):
    """A store that calls `before` before each statement, with the number of the statement."""

    before: Callable[[int], None] = staticmethod(lambda number: None)
    statements = 0

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self.before(self.statements)
        self.statements += 1
        return super().rows(statement, parameters)


def opened(database: Database) -> Interrupted:
    return Interrupted(database.url, lambda: database.server.password, "fhir")


@pytest.mark.parametrize("moment", range(STATEMENTS))
def test_positions_are_read_after_the_rows_that_moved_them(postgres: Postgres, moment: int) -> None:
    with postgres.database() as database:
        beginning, other = opened(database), opened(database)
        schema.prepare(other)
        assert schema.create_tables(other, [RECORD])
        committed = []

        def commit(number: int) -> None:
            if number == moment:
                with other.transaction():
                    move(other, {TopicPartition("fhir.r4.Patient", 0): Move(None, 1)}, {})
                    committed.append(other.run(f"insert into {other.of(RECORD.name)} (record_key) values ('p')"))

        beginning.before = commit
        require_positions(beginning)
        assert committed == [1] or beginning.statements <= moment
        beginning.before = Interrupted.before
        require_positions(beginning)
        for store in (beginning, other):
            store.close()
