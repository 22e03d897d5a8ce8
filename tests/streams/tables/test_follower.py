"""``fhirline tables`` as a process: every table is what the topics say, computed by other code."""

from pathlib import Path

import pytest

from tests.support.expected_tables import different, duck_rows, expected, held
from tests.support.kafka.brokers import RunningBroker
from tests.support.postgres import Postgres
from tests.support.tables import keep_once, published, write


@pytest.mark.long
def test_a_duckdb_file_holds_what_the_topics_say(own_broker: RunningBroker, tmp_path: Path) -> None:
    """Twice: records that are read again, and those that follow, change what they say and nothing else."""
    settings, path = own_broker.settings(), tmp_path / "tables.duckdb"
    records = published(settings)
    write(settings, records[: len(records) // 2])
    first = keep_once(settings, "--to", f"duckdb:{path}")
    assert first.exit_code == 0, first.output
    assert different(held(duck_rows(path)), expected(settings)) == {}
    write(settings, records[len(records) // 3 :])
    second = keep_once(settings, "--to", f"duckdb:{path}")
    assert second.exit_code == 0, second.output
    wanted = expected(settings)
    assert different(held(duck_rows(path)), wanted) == {}
    assert wanted["practitioner"].total() > 0
    assert wanted["event"].total() > 200
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.long
def test_postgresql_holds_what_the_topics_say(own_broker: RunningBroker, postgres: Postgres) -> None:
    settings = own_broker.settings()
    records = published(settings)
    write(settings, records)
    with postgres.database() as database:
        first = keep_once(settings, **database.environment, FHIRLINE_TABLES_BATCH="100")
        assert first.exit_code == 0, first.output
        assert database.server.password not in first.output
        write(settings, records[len(records) // 2 :])
        second = keep_once(settings, **database.environment)
        assert second.exit_code == 0, second.output
        assert different(held(database.rows), expected(settings)) == {}
