"""A disk that is full: the process says so and waits, and when there is space again, nothing is missing."""

from collections.abc import Iterator
from typing import Any

import pytest

from fhirline.config.settings import Settings
from tests.support.expected_tables import different, duck_rows, expected, held
from tests.support.kafka.brokers import RunningBroker
from tests.support.postgres import Postgres
from tests.support.processes import Command
from tests.support.small_disk import SmallDisk, mounted
from tests.support.tables import keep_once, keeping, published, write
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

SMALL = {"FHIRLINE_TABLES_BATCH": "200"}


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    yield from mounted(100)


def wait_for_the_full_disk(process: Command, words: str) -> None:
    """Wait until the process says that it waits, and why, and has not ended."""
    event = process.wait_for("the database does not answer")
    assert words in event["reason"], event
    assert process.running, process.report("has ended")


def wait_for_tables(settings: Settings, process: Command, rows: Any) -> None:
    process.wait_for("the database answers again")
    wanted = expected(settings)
    wait_until(
        lambda: not process.running or different(held(rows), wanted) == {},
        lambda: process.report(f"does not keep the tables: {different(held(rows), wanted)}"),
    )
    assert process.running, process.report("has ended")


def test_postgresql_whose_disk_was_full_has_everything(
    own_broker: RunningBroker, own_postgres: Postgres, disk: SmallDisk
) -> None:
    """The tables' tablespace is full: inserting fails, and the transaction with it."""
    settings = own_broker.settings()
    records = published(settings, rounds=2)
    space = disk.path / "space"
    space.mkdir()
    own_postgres.give(space)
    with own_postgres.database() as database:
        with own_postgres.connect() as admin:
            admin.execute(f"create tablespace small location '{space}'")
            admin.execute(f"alter database {database.name} set tablespace small")
        write(settings, records[::2])
        assert keep_once(settings, **database.environment).exit_code == 0
        disk.fill()
        with keeping(settings, **database.environment, **SMALL) as process:
            write(settings, records)
            wait_for_the_full_disk(process, "DiskFull (53100)")
            disk.free()
            wait_for_tables(settings, process, database.rows)


def test_a_duckdb_file_whose_disk_was_full_has_everything(own_broker: RunningBroker, disk: SmallDisk) -> None:
    settings, path = own_broker.settings(), disk.path / "tables.duckdb"
    records = published(settings, rounds=2)
    write(settings, records[::2])
    assert keep_once(settings, "--to", f"duckdb:{path}").exit_code == 0
    disk.fill()
    with keeping(settings, "--once", "--to", f"duckdb:{path}", **SMALL) as process:
        write(settings, records)
        wait_for_the_full_disk(process, "the disk is full")
        disk.free()
        process.wait()
    assert process.exit_code == 0, process.output
    assert different(held(duck_rows(path)), expected(settings)) == {}
