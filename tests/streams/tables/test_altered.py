"""Tables that others have altered or dropped: no value stands in another column, and what is lost is made again."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import UNUSABLE
from fhirline.config.settings import Settings
from fhirline.streams.operate.doctor import warehouse
from fhirline.streams.operate.doctor.finding import Level
from fhirline.streams.tables import schema
from fhirline.streams.tables.open_store import open_store
from tests.support.kafka.brokers import RunningBroker
from tests.support.kept_tables import in_database, wrong
from tests.support.paths import CONFIG
from tests.support.postgres import Postgres, wait_for_count
from tests.support.tables import keep, keeping, published, write
from tests.support.waiting import LIMIT

pytestmark = pytest.mark.long


NAMES = "select resource_id, family, given, gender, birth_date from fhir.patient order by 1"


def test_columns_in_another_order_have_their_own_values(kept: Settings) -> None:
    """Rows of a table whose column was dropped and added again, which is then the last one."""
    records = published(kept)
    write(kept, records)
    keep(kept)
    before = in_database(kept, NAMES)
    again = ("alter table fhir.patient drop column family", "alter table fhir.patient add column family text")
    assert {row[1] for row in in_database(kept, *again, NAMES)} == {None}
    write(kept, [record for record in records if record.topic == "fhir.r4.Patient"])
    keep(kept)
    assert in_database(kept, NAMES) == before


ALTERED = {
    "alter table fhir.patient drop column family": "patient",
    "alter table fhir.patient alter column gender type boolean using cast(null as boolean)": "patient",
    "drop table fhir.patient": "patient",
    "drop table fhir.record cascade": "record",
    "alter table fhir.record drop column raw cascade": "record",
    "drop table fhir.event_flag cascade": "event_flag",
}


def test_a_table_that_somebody_altered_or_dropped_is_rebuilt_at_the_start(kept: Settings) -> None:
    """Doctor names it before. Views of the database over it are there again too."""
    write(kept, published(kept))
    keep(kept)
    for statement, table in ALTERED.items():
        in_database(kept, statement, "select 1")
        [found] = warehouse.database(kept)
        assert (found.level, found.text.rpartition(": ")[2]) == (Level.PROBLEM, table), statement
        keep(kept)
        assert wrong(kept) == {}, statement
        [found] = warehouse.database(kept)
        assert found.level == Level.OK
    in_database(kept, "drop view fhir.event", "select 1")
    keep(kept)
    assert wrong(kept) == {}


def test_the_table_of_a_gone_view_may_be_dropped(kept: Settings, tmp_path: Path) -> None:
    """Rows of erased patients are deleted from such tables, also where `--drop-gone` was not used to drop them."""
    views = tmp_path / "views"
    views.mkdir()
    view = orjson.loads((CONFIG / "views" / "patient.json").read_bytes()) | {"name": "people"}
    (views / "people.json").write_bytes(orjson.dumps(view))
    records = published(kept)
    write(kept, records)
    keep(kept.model_copy(update={"tables_views": views}))
    keep(kept)
    in_database(kept, "drop table fhir.people", "select 1")
    patient = next(record for record in records if record.topic == "fhir.r4.Patient")
    write(kept, [replace(patient, value=None)])
    keep(kept)
    assert wrong(kept) == {}


def test_further_columns_do_no_harm_and_a_table_that_takes_no_rows_is_named(kept: Settings) -> None:
    records = published(kept)
    write(kept, records[::2])
    keep(kept)
    in_database(kept, "alter table fhir.patient add column note text", "select 1")
    write(kept, records[1::2])
    keep(kept)
    assert in_database(kept, "select count(*) from fhir.patient where note is not null") == [(0,)]
    in_database(
        kept, "update fhir.patient set note = ''", "alter table fhir.patient alter column note set not null", "select 1"
    )
    write(kept, records)
    with pytest.raises(ConfigurationError, match=r"table patient: .*`fhirline tables rebuild patient` makes it anew"):
        keep(kept)


@pytest.mark.parametrize(
    "statement", ["alter table fhir.patient drop column family", "drop table fhir.patient", "drop table fhir.people"]
)
def test_a_table_that_is_altered_while_a_process_keeps_it_is_named(
    own_broker: RunningBroker, postgres: Postgres, tmp_path: Path, statement: str
) -> None:
    """The process ends with its name and what helps, and the next one rebuilds it."""
    view = orjson.loads((CONFIG / "views" / "patient.json").read_bytes()) | {"name": "people"}
    (tmp_path / "people.json").write_bytes(orjson.dumps(view))
    with postgres.database() as database:
        settings = own_broker.settings(tables_url=database.url, tables_password=postgres.password)
        keep(settings.model_copy(update={"tables_views": tmp_path}))  # the table of a view that is gone then
        records = published(settings)
        write(settings, records)
        with keeping(settings, **database.environment) as process:
            wait_for_count(database, "select count(*) from fhir.patient", 1)
            process.wait_for("complete")
            database.rows(statement)
            patients = {record.key: record for record in records if record.topic == "fhir.r4.Patient"}
            erased, again, *_ = patients.values()
            write(settings, [replace(erased, value=None), again])
            assert process.wait(LIMIT) == UNUSABLE, process.output
        table = statement.split()[2].removeprefix("fhir.")
        [line] = process.said()
        assert f"has dropped or altered tables of schema fhir: {table}. Nothing was written" in line
        assert ("`fhirline tables rebuild patient` does" in line) == (table == "patient")
        keep(settings)
        assert wrong(settings) == {}


def test_tables_of_an_older_layout_are_made_anew_and_of_a_newer_one_refused(kept: Settings) -> None:
    """The older one has other internal tables, whose columns this release does not know."""
    write(kept, published(kept))
    keep(kept)
    in_database(kept, "update fhir._state set layout = 1", "alter table fhir._state drop column kept_by", "select 1")
    store = open_store(kept)
    try:
        with pytest.raises(ConfigurationError, match=r"has layout 1, .*: start `fhirline tables`"):
            schema.prepare(store)
        with pytest.raises(ConfigurationError, match="has tables with identities"):
            schema.drop_older(store, without_identities=True)
    finally:
        store.close()
    keep(kept)
    assert wrong(kept) == {}
    in_database(kept, "update fhir._state set layout = 99", "select 1")
    with pytest.raises(ConfigurationError, match=r"has layout 99, .* or another schema"):
        keep(kept)
