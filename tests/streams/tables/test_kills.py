"""Kills, a second writer, and databases and brokers that go away: afterwards, every table is what the topics say.

``TABLES_KILLS`` sets the number of kills of the process, 10 otherwise. More than that need ``--timeout``: 50 take some
ten minutes.
"""

import os
import random
import signal
from pathlib import Path

import pytest

from fhirline.config.exit_codes import OTHER_WRITER
from fhirline.config.settings import Settings
from tests.support.expected_tables import different, duck_rows, expected, held
from tests.support.kafka.brokers import RunningBroker, apache, create_topics, settings_for
from tests.support.postgres import Database, Postgres, wait_for_count
from tests.support.processes import Command
from tests.support.tables import keep_once, keeping, published, write
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("TABLES_KILLS") or 10)
SMALL = {"FHIRLINE_TABLES_BATCH": str(max(4, 400 // KILLS)), "FHIRLINE_LOG_LEVEL": "debug"}
"""Batches so small that the topics are many transactions."""

OPEN = """
select count(*) from pg_stat_activity
where application_name = 'fhirline-tables' and datname = '{}' and backend_xid is not null and state <> 'idle'
"""
"""Counts transactions that have written something and have not ended."""

COMMITTED = "select cast(coalesce(sum(next), 0) as bigint) from fhir._positions"


def test_killed_inside_transactions_postgresql_holds_what_the_topics_say(
    own_broker: RunningBroker, postgres: Postgres
) -> None:
    """The process is stopped first (SIGSTOP), so that PostgreSQL can tell that a transaction is open at the kill."""
    settings = own_broker.settings()
    write(settings, published(settings, rounds=1 + KILLS // 5))
    inside = 0
    with postgres.database() as database:
        for _ in range(20 * KILLS):
            if inside == KILLS:
                break
            inside += killed_inside(settings, database)
        assert inside == KILLS
        last = keep_once(settings, **database.environment, **SMALL)
        assert last.exit_code == 0, last.output
        assert different(held(database.rows), expected(settings)) == {}


def killed_inside(settings: Settings, database: Database) -> bool:
    """Kill a process while it has an open transaction; return whether it had.

    It is of no group (``--once``), so that the next one reads at once. test_sharing.py kills processes of a group.
    """
    with keeping(settings, "--once", **database.environment, **SMALL) as process:
        process.wait_for("transaction")
        wait_until(
            lambda: database.rows(OPEN.format(database.name))[0][0] or not process.running,
            lambda: process.report("has no transaction"),
        )
        assert process.running, process.report("has ended")
        os.kill(process.pid, signal.SIGSTOP)
        [[still_open]] = database.rows(OPEN.format(database.name))
        process.kill()
    return bool(still_open)


def test_killed_inside_transactions_a_duckdb_file_holds_what_the_topics_say(
    own_broker: RunningBroker, tmp_path: Path
) -> None:
    """A transaction was begun and not committed, by the process's own last line, in at least half of the kills."""
    settings, path, rng = own_broker.settings(), tmp_path / "tables.duckdb", random.Random(4)
    write(settings, published(settings))
    inside = 0
    for _ in range(KILLS):
        with keeping(settings, "--to", f"duckdb:{path}", **SMALL) as process:
            process.wait_for("transaction")
            wait_for_transactions(process, rng.randrange(1, 6))
            os.kill(process.pid, signal.SIGSTOP)
            process.kill()
        inside += "transaction" in [line for line in process.printed if '"event"' in line][-1]
    last = keep_once(settings, "--to", f"duckdb:{path}", **SMALL)
    assert last.exit_code == 0, last.output
    assert different(held(duck_rows(path)), expected(settings)) == {}
    assert inside * 2 >= KILLS


def wait_for_transactions(process: Command, count: int) -> None:
    """Wait until a process has begun so many transactions, or has done all there is to do."""

    def reached() -> bool:
        begun = sum('"event":"transaction"' in line for line in [*process.printed])
        return begun >= count or finished(process)

    wait_until(reached, lambda: process.report("is stuck"))


def finished(process: Command) -> bool:
    return any('"event":"complete"' in line for line in [*process.printed]) or not process.running


def test_of_two_writers_one_ends_and_the_tables_are_right(own_broker: RunningBroker, postgres: Postgres) -> None:
    """Writers that do not know of each other: they are of two consumer groups, so that each reads all partitions."""
    settings = own_broker.settings()
    records = published(settings)
    write(settings, records[: len(records) // 2])
    with postgres.database() as database:
        assert keep_once(settings, **database.environment).exit_code == 0
        with (
            keeping(settings, **database.environment, **SMALL) as one,
            keeping(settings, **database.environment, **SMALL, FHIRLINE_GROUP="other") as other,
        ):
            for process in (one, other):
                process.wait_for("complete")
            write(settings, records)
            wait_until(lambda: not (one.running and other.running), "both go on")
            ended, left = (other, one) if one.running else (one, other)
            assert ended.wait() == OTHER_WRITER, ended.output
            [line] = ended.said()
            assert "processes of another consumer group" in line
            wanted = expected(settings)
            wait_until(
                lambda: not left.running or different(held(database.rows), wanted) == {},
                lambda: left.report("does not keep the tables"),
            )
            assert left.running, left.report("has ended")
        assert different(held(database.rows), wanted) == {}


def test_a_database_that_is_killed_and_comes_back_has_everything(
    own_broker: RunningBroker, own_postgres: Postgres
) -> None:
    """Stopped in order, then as in a crash, while transactions are being committed: the process waits and goes on."""
    settings = own_broker.settings()
    records = published(settings, rounds=2)
    write(settings, records[::2])
    with own_postgres.database() as database, keeping(settings, **database.environment, **SMALL) as process:
        wait_for_count(database, COMMITTED, 1)
        for number, by in enumerate((signal.SIGINT, signal.SIGQUIT), 1):
            own_postgres.stop(by)
            write(settings, records[number::4])
            wait_for_lines(process, "the database does not answer", number)
            own_postgres.start()
            wait_for_lines(process, "the database answers again", number)
        wanted = expected(settings)
        wait_until(
            lambda: not process.running or different(held(database.rows), wanted) == {},
            lambda: process.report("does not keep the tables"),
        )
        assert process.running, process.report("has ended")
        assert database.server.password not in process.output


def wait_for_lines(process: Command, event: str, count: int) -> None:
    def printed() -> bool:
        lines = [line for line in [*process.printed] if f'"event":"{event}"' in line]
        return len(lines) >= count or not process.running

    wait_until(printed, lambda: process.report(f"does not say: {event}"))


def test_brokers_that_restart_interrupt_nothing(postgres: Postgres) -> None:
    with apache() as kafka, postgres.database() as database:
        create_topics(kafka.bootstrap)
        settings = settings_for(kafka.bootstrap)
        records = published(settings)
        write(settings, records[: len(records) // 2])
        with keeping(settings, **database.environment, **SMALL) as process:
            wait_for_count(database, COMMITTED, 200)
            kafka.kill(1)
            kafka.start(1)
            write(settings, records[len(records) // 2 :])
            wanted = expected(settings)
            wait_until(
                lambda: not process.running or different(held(database.rows), wanted) == {},
                lambda: process.report(f"does not keep the tables: {different(held(database.rows), wanted)}"),
            )
            assert process.running, process.report("has ended")
