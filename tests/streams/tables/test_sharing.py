"""Processes of ``fhirline tables`` that share the partitions: they come, are killed and end while records are written.

``TABLES_REBALANCES`` sets how many processes come and go, 4 otherwise. Many need ``--timeout``.
"""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from fhirline.config.exit_codes import OTHER_WRITER
from fhirline.config.settings import Settings
from tests.support.expected_tables import different, expected, held
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.paths import CONFIG
from tests.support.postgres import Database, Postgres
from tests.support.processes import Command
from tests.support.tables import keeping, published, write
from tests.support.waiting import LIMIT, wait_until

pytestmark = pytest.mark.long

CHANGES = int(os.environ.get("TABLES_REBALANCES") or 4)
SMALL = {"FHIRLINE_TABLES_BATCH": "20", "FHIRLINE_LOG_LEVEL": "debug", "FHIRLINE_SESSION_TIMEOUT": "6"}
"""Many transactions, and a killed process that the group misses as soon as a broker lets it."""


@pytest.fixture(scope="module")
def kafka() -> Iterator[Settings]:
    """Settings of an Apache Kafka, whose groups are those of production."""
    with apache() as broker:
        create_topics(broker.bootstrap)
        yield settings_for(broker.bootstrap)


def assigned(process: Command) -> int:
    """Return how many partitions a process had by its last line about that; -1 before the first."""
    for line in reversed([*process.printed]):
        if '"event":"partitions assigned"' in line:
            return int(line.partition('"partitions":')[2].partition(",")[0].rstrip("}"))
        if '"event":"partitions revoked"' in line:
            return 0
    return -1


def wait_for_share(processes: list[Command], total: int) -> None:
    """Wait until these processes have all partitions, and each has some."""

    def shared() -> bool:
        assert all(process.running for process in processes), [process.output[-2000:] for process in processes]
        shares = [assigned(process) for process in processes]
        return sum(shares) == total and min(shares) > 0

    wait_until(shared, lambda: f"not shared: {[assigned(process) for process in processes]} of {total}")


def wait_for_tables(settings: Settings, database: Database, *processes: Command) -> None:
    wanted = expected(settings)
    wait_until(
        lambda: not all(process.running for process in processes) or different(held(database.rows), wanted) == {},
        lambda: f"the tables differ: {different(held(database.rows), wanted)}",
    )
    for process in processes:
        assert process.running, process.report("has ended")


def test_tables_are_right_while_processes_come_are_killed_and_end(kafka: Settings, postgres: Postgres) -> None:
    """Records are written before each change and meanwhile. Every other process is killed, the others get SIGTERM.

    In the end, one stands still until the group has given its partitions to the other, and goes on.
    """
    settings, rng = kafka, random.Random(17)
    records = published(settings, rounds=1 + CHANGES // 2)
    parts = [records[number :: CHANGES + 2] for number in range(CHANGES + 2)]
    write(settings, parts.pop())
    with postgres.database() as database, ExitStack() as started:

        def start() -> Command:
            return started.enter_context(keeping(settings, **database.environment, **SMALL))

        total = sum(1 for _ in partitions(settings))
        running = [start(), start()]
        wait_for_share(running, total)
        for number, part in enumerate(parts[:-1]):
            write(settings, part[: len(part) // 2])
            leaving = running.pop(rng.randrange(len(running)))
            if number % 2 == 0:
                leaving.kill()
            else:
                assert leaving.stop() == 0, leaving.output
            running.append(start())
            write(settings, part[len(part) // 2 :])
            wait_for_share(running, total)
        write(settings, parts[-1])
        wait_for_tables(settings, database, *running)
        standing, other = running
        os.kill(standing.pid, signal.SIGSTOP)
        wait_until(lambda: assigned(other) == total, lambda: other.report("has not all partitions"))
        write(settings, records[::2])
        os.kill(standing.pid, signal.SIGCONT)
        wait_for_share(running, total)
        wait_for_tables(settings, database, *running)


def test_a_process_with_more_views_ends_those_without(kafka: Settings, postgres: Postgres, tmp_path: Path) -> None:
    """The new view's table would lack the rows of the other process's partitions."""
    records = published(kafka)
    write(kafka, records[::2])
    view = orjson.loads((CONFIG / "views" / "patient.json").read_bytes()) | {"name": "people"}
    (tmp_path / "people.json").write_bytes(orjson.dumps(view))
    more = {"FHIRLINE_TABLES_VIEWS": str(tmp_path)}
    with postgres.database() as database, keeping(kafka, **database.environment, **SMALL) as before:
        wait_for_tables(kafka, database, before)
        with keeping(kafka, **database.environment, **SMALL, **more) as after:
            after.wait_for("following")
            write(kafka, records[1::2])
            assert before.wait(LIMIT) == OTHER_WRITER, before.output
            wait_for_tables(kafka.model_copy(update={"tables_views": tmp_path}), database, after)


def partitions(settings: Settings) -> Iterator[object]:
    from fhirline.streams.tables.topics import read_topics

    yield from read_topics(settings).partitions
