"""PostgreSQL's locks: those of a process that was paused or has vanished go, and nobody waits for any without end."""

import pytest

from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.tables import schema
from fhirline.streams.tables.positions import Move, move
from fhirline.streams.tables.postgres import PostgresStore
from fhirline.streams.tables.store import StoreUnavailable
from tests.support.postgres import Database, Postgres

pytestmark = pytest.mark.long

PLACE = TopicPartition("fhir.r4.Patient", 0)


def opened(database: Database, **options: str) -> PostgresStore:
    given = "%20".join(f"-c%20{name}%3D{value}" for name, value in options.items())
    return PostgresStore(f"{database.url}?options={given}", lambda: database.server.password, "fhir")


def test_the_locks_of_a_process_that_stands_still_go(postgres: Postgres) -> None:
    """The process that goes on afterwards is told so like one whose database went away: it asks what was committed."""
    with postgres.database() as database:
        standing = opened(database, idle_in_transaction_session_timeout="1s")
        other = opened(database)
        schema.prepare(standing)

        def stand_still() -> None:
            with standing.transaction():
                move(standing, {PLACE: Move(None, 7)}, {})
                with other.transaction():
                    move(other, {PLACE: Move(None, 5)}, {})  # waits until the server has ended the first transaction
                standing.rows("select 1")

        with pytest.raises(StoreUnavailable):
            stand_still()
        standing.reconnect()
        assert standing.rows("select next from fhir._positions") == [(5,)]
        for store in (standing, other):
            store.close()


def test_who_waits_for_a_lock_gives_up(postgres: Postgres) -> None:
    with postgres.database() as database:
        standing, other = opened(database), opened(database, lock_timeout="1s")
        schema.prepare(standing)
        with standing.transaction():
            move(standing, {PLACE: Move(None, 7)}, {})
            with pytest.raises(StoreUnavailable), other.transaction():
                move(other, {PLACE: Move(None, 5)}, {})
            with pytest.raises(StoreUnavailable), other.transaction():
                other.lock_positions()
        assert other.rows("select next from fhir._positions") == [(7,)]
        for store in (standing, other):
            store.close()


def test_a_connection_has_its_limits_unless_others_are_named(postgres: Postgres) -> None:
    with postgres.database() as database:
        store = opened(database, lock_timeout="5s")
        wanted = "('idle_in_transaction_session_timeout', 'lock_timeout', 'tcp_keepalives_idle')"
        found = sorted(store.rows(f"select name, current_setting(name) from pg_settings where name in {wanted}"))
        store.close()
    assert found == [
        ("idle_in_transaction_session_timeout", "1min"),
        ("lock_timeout", "5s"),
        ("tcp_keepalives_idle", "30"),
    ]
