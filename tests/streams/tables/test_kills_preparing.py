"""Kills while tables are made or replaced, at moments that others' locks hold still: the next start heals."""

import os
import signal
from dataclasses import replace

import pytest

from fhirline.config.settings import Settings
from tests.support.kept_tables import OnPostgres, wrong
from tests.support.postgres import Database, wait_for_count
from tests.support.tables import keep, keeping, write

pytestmark = pytest.mark.long

BLOCKED = """
select count(*) from pg_stat_activity where application_name = 'fhirline-tables' and datname = '{}'
and wait_event_type = 'Lock' and backend_xid is not null and query like '{}%'
"""
"""Counts transactions that have changed something and wait for a lock with such a statement."""

ANOTHER = "update fhir._tables set digest = 'x' where name = '{}'"
OLDER = "update fhir._state set layout = 1"

MOMENTS = {
    "in a rebuild's swap, before the old table goes": ([ANOTHER.format("patient")], "access share", "patient", "drop"),
    "in the swap, when tables are replaced": (
        [ANOTHER.format("patient"), ANOTHER.format("record")],
        "share",
        "_state",
        "update",
    ),
    "in an upgrade of the internal tables": ([OLDER], "access share", "questionnaire_answer", "drop table"),
    "in an upgrade, when all but the last are dropped": ([OLDER], "access share", "_state", "drop table"),
    "between the rows and the commit": ([], "share", "_state", "update"),
}


@pytest.mark.parametrize(("before", "mode", "table", "statement"), MOMENTS.values(), ids=MOMENTS)
def test_killed(half_kept: OnPostgres, before: list[str], mode: str, table: str, statement: str) -> None:
    settings, database, records = half_kept
    for change in before:
        database.rows(change)
    patient = next(record for record in records if record.topic == "fhir.r4.Patient")
    write(settings, [*records[1::2], replace(patient, value=None)])
    kill_at(settings, database, f"lock table fhir.{table} in {mode} mode", statement)
    keep(settings)
    assert wrong(settings) == {}
    assert database.rows("select relname from pg_class where relname like E'\\\\_new%' and relkind = 'r'") == []


def kill_at(settings: Settings, database: Database, lock: str, statement: str) -> None:
    """Kill a process that waits, within a transaction, until another session has given up its lock."""
    with database.server.connect(database.name) as session, session.transaction():
        session.execute(lock)
        with keeping(settings, "--once", **database.environment) as process:
            wait_for_count(database, BLOCKED.format(database.name, statement), 1)
            assert process.running
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
