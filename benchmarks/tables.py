"""Kafka → PostgreSQL: ``fhirline tables`` against a plain loader (`benchmarks.plain_tables`), in turn on one broker.

The topics hold what a worker writes for events of the mix. Each process starts with an empty database; measured is from
its first commit to its last, so that starting and creating tables are not. Records are counted by the positions that
are committed with the rows. Afterwards both must hold the same rows in the nine tables that both have.
"""

import time
from pathlib import Path

from benchmarks import machine
from benchmarks.broker import STALLED_SECONDS, Broker, Kind, broker
from benchmarks.prepared import canonical, preload
from benchmarks.program import BenchmarkFailed, Program, fhirline, module, running
from fhirline.streams.tables.topics import TOPICS
from tests.support.expected_tables import BY_HAND
from tests.support.postgres import Database, Postgres

Figures = dict[str, float]

SHARE = 0.25
"""Share of the events asked for: one is some ten records."""

OURS, PLAIN = "tables", "plain loader"
BOTH = ("record", *BY_HAND)


def tables(kind: Kind, events: int, partitions: int) -> Figures:
    """Measure both once."""
    records = [*canonical(max(50, int(events * SHARE)), partitions, TOPICS)]
    found: Figures = {"records": float(len(records))}
    with broker(kind, partitions) as kafka, Postgres() as server:
        preload(kafka, records)
        with server.database() as database:
            own = {**database.environment, "FHIRLINE_TABLES_SCHEMA": "fhir"}
            found |= measured(OURS, fhirline("tables"), kafka, database, "fhir", own, len(records))
            plain = {"PLAIN_URL": database.url, "PLAIN_PASSWORD": server.password}
            found |= measured(PLAIN, module("benchmarks.plain_tables"), kafka, database, "plain", plain, len(records))
            require_same(database)
    for figure in ("records per CPU-second", "rows per CPU-second"):
        found[f"{OURS}, {figure}, of the plain loader"] = found[f"{OURS}, {figure}"] / found[f"{PLAIN}, {figure}"]
    return found


def measured(
    name: str,
    command: tuple[str, ...],
    kafka: Broker,
    database: Database,
    schema: str,
    own: dict[str, str],
    records: int,
) -> Figures:
    with running(name, command, {**kafka.environment, **own}) as process:
        first = wait_for(process, database, schema, 1)
        begun, before, server_before = time.perf_counter(), process.usage(), server_cpu(database)
        if first == records:
            raise BenchmarkFailed(f"{name}: {records} records are too few to measure, all came at once")
        rows_before = rows(database, schema)
        wait_for(process, database, schema, records)
        seconds, after, server_after = time.perf_counter() - begun, process.usage(), server_cpu(database)
        peak = peak_memory(process.pid)
    cpu = max(machine.TICK, after.cpu - before.cpu)
    return {
        f"{name}, records/s": (records - first) / seconds,
        f"{name}, records per CPU-second": (records - first) / cpu,
        f"{name}, rows per CPU-second": (rows(database, schema) - rows_before) / cpu,
        f"{name}, CPU of a core": cpu / seconds,
        f"{name}, PostgreSQL's CPU of a core": (server_after - server_before) / seconds,
        f"{name}, peak RSS MiB": peak,
    }


def wait_for(process: Program, database: Database, schema: str, least: int) -> int:
    """Return how many records are committed, once there are so many."""
    last, since = 0, time.monotonic()
    with database.server.connect(database.name) as connection:
        while True:
            process.check()
            [[there]] = connection.execute(f"select to_regclass('{schema}._positions') is not null").fetchall()
            found: list[tuple[object, ...]] = [(0,)]
            if there:
                found = connection.execute(f"select coalesce(sum(next), 0)::bigint from {schema}._positions").fetchall()
            [[count]] = found
            assert isinstance(count, int)
            if count >= least:
                return count
            if count > last:
                last, since = count, time.monotonic()
            if time.monotonic() - since > STALLED_SECONDS:
                raise BenchmarkFailed(
                    f"{process.name}: {count} of {least} records, and nothing for {STALLED_SECONDS:g} s"
                )
            time.sleep(0.02)


def rows(database: Database, schema: str) -> int:
    """Count the rows of all tables."""
    names = database.rows(
        f"select table_name from information_schema.tables where table_schema = '{schema}' "
        r"and table_type = 'BASE TABLE' and table_name not like '\_%'"
    )
    counts = " union all ".join(f'select count(*) from {schema}."{name}"' for (name,) in names)
    return sum(int(str(count)) for (count,) in database.rows(counts))


def require_same(database: Database) -> None:
    """Raise BenchmarkFailed where a table that both have holds other rows."""
    for name in BOTH:
        differ = database.rows(
            f'select count(*) from ((table fhir."{name}" except all table plain."{name}") union all '
            f'(table plain."{name}" except all table fhir."{name}")) d'
        )
        if differ != [(0,)]:
            raise BenchmarkFailed(f"table {name}: {differ[0][0]} rows differ between ours and the plain loader's")


def server_cpu(database: Database) -> float:
    """Return the CPU-seconds of PostgreSQL's processes: those that run, and those that have ended."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == database.server.pid:
            total += (int(fields[11]) + int(fields[12])) * machine.TICK
        elif int(stat.parent.name) == database.server.pid:
            total += sum(map(int, fields[11:15])) * machine.TICK
    return total


def peak_memory(pid: int) -> float:
    """Return the greatest resident memory so far, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024
