"""Others who lock, drop, empty or forbid while tables are kept: a line that says so, nothing lost, and it goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import UNUSABLE
from fhirline.config.settings import Settings
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.open_store import open_store
from fhirline.streams.tables.rebuild import Rebuild
from fhirline.streams.tables.topics import read_topics
from tests.support.kept_tables import OnPostgres, in_database, wrong
from tests.support.postgres import Database, wait_for_count
from tests.support.processes import Command
from tests.support.tables import keep, keep_once, keeping, published, write
from tests.support.waiting import LIMIT

pytestmark = pytest.mark.long

IMPATIENT = "?options=-c%20lock_timeout%3D1s"
"""Gives up waiting for a lock after a second, not after a minute."""


BLOCKED = """
select count(*) from pg_stat_activity
where application_name = 'fhirline-tables' and datname = '{}' and wait_event_type = 'Lock'
"""
"""Counts statements that wait for a lock."""

HOLD = "lock table fhir._positions in share row exclusive mode"
"""Lets a process read the positions and move none."""


def end_after(settings: Settings, database: Database, *statements: str) -> Command:
    """Run a process to its end. Others run these statements between its start and its first transaction."""
    with (
        database.server.connect(database.name) as session,
        session.transaction(),
    ):
        session.execute(HOLD)
        with keeping(settings, "--once", **database.environment) as process:
            wait_for_count(database, BLOCKED.format(database.name), 1)
            for statement in statements:
                session.execute(statement)
            session.execute("commit")
            process.wait(LIMIT)
            session.execute("begin")
    return process


@pytest.mark.parametrize("table", ["patient", "_positions", "_state", "_tables"])
def test_a_table_that_somebody_locks_is_waited_for(half_kept: OnPostgres, table: str) -> None:
    settings, database, records = half_kept
    write(settings, records[1::2])
    url = {**database.environment, "FHIRLINE_TABLES_URL": f"{database.url}{IMPATIENT}"}
    with (
        database.server.connect(database.name) as session,
        keeping_locked(session, table, settings, url) as process,
    ):
        event = process.wait_for("the database does not answer")
        assert "another session holds a lock on a table" in event["reason"]
        session.execute("commit")
        assert process.wait(LIMIT) == 0, process.output
    assert wrong(settings) == {}


@contextmanager
def keeping_locked(session: Any, table: str, settings: Settings, url: dict[str, str]) -> Iterator[Command]:
    session.execute("begin")
    session.execute(f"lock table fhir.{table}")
    with keeping(settings, "--once", **url) as process:
        yield process


DROPPED = {
    "drop schema fhir cascade": "somebody has dropped schema fhir or its tables",
    "drop table fhir._state": "somebody has dropped _state of schema fhir",
    "drop table fhir._positions": "somebody has dropped _positions of schema fhir",
    "delete from fhir._state": "somebody has changed it",
    "delete from fhir._positions": "somebody has deleted the rows of",
}


@pytest.mark.parametrize(("statement", "told"), DROPPED.items(), ids=DROPPED)
def test_internal_tables_that_somebody_drops_or_empties_are_named(
    half_kept: OnPostgres, statement: str, told: str
) -> None:
    """While a process keeps the tables, and at the next start, which makes all anew where all is gone."""
    settings, database, records = half_kept
    write(settings, records[1::2])
    process = end_after(settings, database, statement)
    assert process.exit_code == UNUSABLE, process.output
    [line] = process.said()
    assert told in line
    if statement != "drop schema fhir cascade":
        with pytest.raises(ConfigurationError, match=told):
            keep(settings)
        heal(settings, database, statement)
    keep(settings)
    assert wrong(settings) == {}


def test_definitions_that_somebody_drops_are_missed_at_the_next_start(on_postgres: OnPostgres) -> None:
    settings, database, records = on_postgres
    write(settings, records)
    keep(settings)
    database.rows("drop table fhir._tables")
    with pytest.raises(ConfigurationError, match="somebody has dropped _tables of schema fhir"):
        keep(settings)


def heal(settings: Settings, database: Database, statement: str) -> None:
    """Do what the line says."""
    if statement == "delete from fhir._state":
        database.rows("insert into fhir._state values (2, 0, '', true)")
    elif statement == "delete from fhir._positions":
        rebuild_all(settings)
    else:
        database.rows("drop schema fhir cascade")


def rebuild_all(settings: Settings) -> None:
    store = open_store(settings)
    try:
        Rebuild(settings, store, load_catalog(settings)).of_everything(read_topics(settings))
    finally:
        store.close()


def test_positions_that_somebody_deletes_are_told_in_both_databases(kept: Settings) -> None:
    """From the beginning of the topics, tombstones that compaction has removed would never be seen."""
    write(kept, published(kept))
    keep(kept)
    in_database(kept, "delete from fhir._positions", "select 1")
    with pytest.raises(ConfigurationError, match=r"deleted the rows of .*`fhirline tables rebuild --all`"):
        keep(kept)
    rebuild_all(kept)
    keep(kept)
    assert wrong(kept) == {}


def test_a_role_that_may_not_create_is_told_so(on_postgres: OnPostgres) -> None:
    settings, database, records = on_postgres
    write(settings, records)
    database.rows(f"alter database {database.name} owner to postgres")
    refused = keep_once(settings, **database.environment)
    assert refused.exit_code == UNUSABLE
    assert f"permission denied for database {database.name}; the privileges" in refused.said()[0]
    database.rows(f"create schema fhir; grant usage on schema fhir to {database.name}")
    refused = keep_once(settings, **database.environment)
    assert refused.exit_code == UNUSABLE
    assert "permission denied for schema fhir; the privileges" in refused.said()[0]
    database.rows(f"alter schema fhir owner to {database.name}")
    keep(settings)
    assert wrong(settings) == {}


REVOKED = {
    "revoke insert on fhir.patient from {}": "grant insert on fhir.patient to {}",
    "revoke delete on fhir.patient from {}": "grant delete on fhir.patient to {}",
    "revoke update on fhir._positions from {}": "grant update on fhir._positions to {}",
    "revoke usage on schema fhir from {}": "grant usage on schema fhir to {}",
}


@pytest.mark.parametrize(("taken", "given"), REVOKED.items(), ids=REVOKED)
def test_a_privilege_that_is_revoked_is_named_and_nothing_is_lost(
    half_kept: OnPostgres, taken: str, given: str
) -> None:
    settings, database, records = half_kept
    write(settings, records)
    process = end_after(settings, database, taken.format(database.name))
    assert process.exit_code == UNUSABLE, process.output
    [line] = process.said()
    assert "InsufficientPrivilege (42501): permission denied for " in line
    with pytest.raises(ConfigurationError, match="InsufficientPrivilege"):
        keep(settings)
    database.rows(given.format(database.name))
    keep(settings)
    assert wrong(settings) == {}


def test_a_policy_that_holds_for_the_owner_is_refused(on_postgres: OnPostgres) -> None:
    """Deleting an erased patient's rows must not pass over those that the policy hides."""
    settings, database, records = on_postgres
    write(settings, records)
    keep(settings)
    database.rows(
        "alter table fhir.patient enable row level security; alter table fhir.patient force row level security; "
        "create policy part on fhir.patient using (gender = 'female')"
    )
    patient = next(record for record in records if record.topic == "fhir.r4.Patient")
    write(settings, [replace(patient, value=None)])
    with pytest.raises(ConfigurationError, match='row-level security policy for table "patient"'):
        keep(settings)
    database.rows("alter table fhir.patient no force row level security")
    keep(settings)
    assert wrong(settings) == {}
