"""``fhirline forget`` with a running worker and running tables: rows go from both databases, and bytes from files."""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.support import cli
from tests.support.cases import cases
from tests.support.erasure import KEY, SECRET
from tests.support.expected_tables import different, duck_rows, expected, held
from tests.support.kafka.brokers import RunningBroker
from tests.support.postgres import Database, Postgres, wait_for_count
from tests.support.processes import Command
from tests.support.running_worker import running
from tests.support.tables import keep_once, keeping
from tests.support.waiting import wait_until
from tests.support.without_identities import KEY as RESEARCH_KEY
from tests.support.without_identities import catalog_of
from tests.support.workload import produce

pytestmark = pytest.mark.long

HIDDEN = {"FHIRLINE_TABLES_WITHOUT_IDENTITIES": "true", "FHIRLINE_RESEARCH_KEY": RESEARCH_KEY}
NOTE = b"allergy 1 description"


def of_two_patients(mark: str) -> Iterator[ProducerRecord]:
    """Yield the events of a golden case twice: of a patient with a mark in a note, and of another one."""
    case = next(case for case in cases() if (case.vendor, case.name) == ("mediquo", "consultation"))
    received = Instant.parse("2024-06-01T12:00:00Z")
    assert received is not None
    for body in case.events:
        text = orjson.dumps(body)
        yield raw_record("mediquo", "default", text, received, case.route_event, 64)
        assert NOTE in text
        yield raw_record("mediquo", "acme", text.replace(NOTE, mark.encode()), received, case.route_event, 64)


def holding(database: Database, words: str) -> dict[str, object]:
    """Return which tables have these words in a row, and in how many."""
    names = database.rows(
        "select table_schema, table_name from information_schema.tables "
        "where table_schema in ('fhir', 'without_identities')"
    )
    found = {
        f"{schema}.{name}": database.rows(
            f"""select count(*) from {schema}."{name}" t where t::text like '%{words}%'"""
        )[0][0]
        for schema, name in names
    }
    return {name: count for name, count in found.items() if count}


def test_a_forgotten_patient_is_in_no_table_and_in_no_file(
    own_broker: RunningBroker, postgres: Postgres, tmp_path: Path
) -> None:
    settings = own_broker.settings(erasure_key=SECRET, session_timeout=6)
    mark, files = f"M{secrets.token_hex(31)}", {"with": tmp_path / "with.duckdb", "without": tmp_path / "out.duckdb"}
    ducks = [
        ({"FHIRLINE_TABLES_URL": f"duckdb:{files['with']}"}, "fhir"),
        ({"FHIRLINE_TABLES_URL": f"duckdb:{files['without']}", **HIDDEN}, "without_identities"),
    ]
    raws = produce(settings, of_two_patients(mark))
    patient = next((raw.key or b"").decode().partition("|")[2] for raw in raws if mark.encode() in (raw.value or b""))
    with postgres.database() as database, ExitStack() as started:
        started.enter_context(running(settings, **KEY))
        for hidden in ({}, HIDDEN):
            started.enter_context(keeping(settings, **database.environment, **hidden))
        wait_for_count(database, f"select count(*) from fhir.allergy where note = '{mark}'", 1)
        [(id,)] = database.rows(f"select patient_id from fhir.allergy where note = '{mark}'")
        hash = catalog_of().row_id(str(id))
        theirs = f"select count(*) from without_identities.patient where resource_id = '{hash}'"
        wait_for_count(database, theirs, 1)
        for environ, _ in ducks:
            assert keep_once(settings, **environ).exit_code == 0
        assert mark.encode() in files["with"].read_bytes()
        assert hash.encode() in files["without"].read_bytes()

        following = [
            started.enter_context(keeping(settings, FHIRLINE_LOG_LEVEL="debug", **environ)) for environ, _ in ducks
        ]
        for process in following:
            process.wait_for("complete")
        forget(settings, patient)
        wanted = expected(settings)
        wait_until(lambda: database.rows(theirs) == [(0,)], "the patient has a row still")
        wait_until(
            lambda: different(held(database.rows), wanted) == {},
            lambda: f"not erased: {different(held(database.rows), wanted)}",
        )
        for process in following:
            wait_until(partial(committed, process), process.report("has read no tombstone"))
            assert process.stop() == 0, process.output
        assert [holding(database, words) for words in (mark, str(id), hash)] == [{}, {}, {}]
        assert wanted["patient"].total() == 1
    for environ, schema in ducks:
        assert keep_once(settings, **environ).exit_code == 0
        assert (
            held(duck_rows(Path(environ["FHIRLINE_TABLES_URL"].removeprefix("duckdb:"))), schema)["patient"].total()
            == 1
        )
    assert different(held(duck_rows(files["with"])), wanted) == {}
    later = tmp_path / "later.duckdb"
    assert keep_once(settings, FHIRLINE_TABLES_URL=f"duckdb:{later}").exit_code == 0
    assert different(held(duck_rows(later)), wanted) == {}, "tables that are filled after the erasure know it too"
    for words in (mark, str(id), hash):
        assert [name for name in os.listdir(tmp_path) if words.encode() in (tmp_path / name).read_bytes()] == []


def committed(process: Command) -> bool:
    assert process.running, process.report("has ended")
    return any('"event":"committed"' in line for line in [*process.printed])


def forget(settings: Settings, patient: str) -> None:
    """Run the command as an operator does."""
    named = ("--vendor", "mediquo", "--tenant", "acme", "--patient", "-", "--yes", "--settle=0", "--reason", "a ticket")
    done = cli.run("forget", *named, env={**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, **KEY}, stdin=patient)
    assert done.returncode == 0, done.stderr
