"""A lakehouse kept by ``fhirline tables``: every table is what the topics say, after kills and two writers too.

``TABLES_KILLS`` sets the number of kills, 4 otherwise.
"""

import os
import random
import signal

import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from fhirline.config.exit_codes import OTHER_WRITER
from fhirline.config.settings import Settings
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, from_confluent
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.delta.batch_writer import Writer
from fhirline.streams.tables.delta.lake_table import LakeTable, position_id
from fhirline.streams.tables.open_store import open_lakehouse
from fhirline.streams.tables.store import OtherWriter, StoreUnavailable
from fhirline.streams.tables.topics import TOPICS, read_topics
from tests.support.lakehouse import keep_lake, lake_held, lake_tables, lake_wrong, uneven
from tests.support.processes import Command
from tests.support.tables import keep_once, keeping, published, write
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("TABLES_KILLS") or 4)
QUICK = {"FHIRLINE_TABLES_WITHIN": "0.2"}
SMALL = {**QUICK, "FHIRLINE_TABLES_BATCH": str(max(50, 1_600 // KILLS)), "FHIRLINE_LOG_LEVEL": "debug"}


def to(settings: Settings) -> tuple[str, str]:
    return "--to", settings.tables_url or ""


def test_the_tables_hold_what_the_topics_say(lake: Settings) -> None:
    """Twice: records that are read again, and those that follow, change what they say and nothing else."""
    records = published(lake)
    write(lake, records[: len(records) // 2])
    first = keep_once(lake, *to(lake), **QUICK)
    assert first.exit_code == 0, first.output
    assert lake_wrong(lake) == {}
    write(lake, records[len(records) // 3 :])
    second = keep_once(lake, *to(lake), **QUICK)
    assert second.exit_code == 0, second.output
    assert lake_wrong(lake) == {}
    house = open_lakehouse(lake)
    held = lake_held(house)
    assert held["event"].total() > 200
    import polars as pl

    for name in ("patient", "record", "dosage"):  # another reader of Delta than deltalake itself
        assert pl.read_delta(str(house.path / name)).height == held[name].total()
    delta = DeltaTable(house.path / "dosage")
    assert delta.metadata().description
    assert all(field.metadata.get("comment") for field in delta.schema().fields)
    assert house.folder.stat().st_mode & 0o077 == 0


def test_killed_between_tables_they_hold_what_the_topics_say(lake: Settings) -> None:
    """The process is killed after some table's commit. At least half of the kills leave tables that differ."""
    rng, inside = random.Random(7), 0
    write(lake, published(lake, rounds=1 + KILLS // 8))
    for _ in range(KILLS):
        with keeping(lake, *to(lake), **SMALL) as process:
            process.wait_for("following")
            wait_for_commits(process, rng.randrange(1, 30))
            os.kill(process.pid, signal.SIGSTOP)
            process.kill()
        inside += bool(uneven(lake))
    last = keep_once(lake, *to(lake), **SMALL)
    assert last.exit_code == 0, last.output
    assert uneven(lake) == []
    assert lake_wrong(lake) == {}
    assert inside * 2 >= KILLS


def wait_for_commits(process: Command, count: int) -> None:
    def reached() -> bool:
        lines = [*process.printed]
        committed = sum('"event":"committed"' in line for line in lines)
        return committed >= count or any('"event":"complete"' in line for line in lines) or not process.running

    wait_until(reached, lambda: process.report("is stuck"))


def test_of_two_writers_one_ends_and_the_tables_are_right(lake: Settings) -> None:
    records = published(lake)
    write(lake, records[: len(records) // 2])
    keep_lake(lake)
    with keeping(lake, *to(lake), **SMALL) as one, keeping(lake, *to(lake), **SMALL) as other:
        for process in (one, other):
            process.wait_for("complete")
        write(lake, records)
        wait_until(lambda: not (one.running and other.running), "both go on")
        ended = other if one.running else one
        assert ended.wait() == OTHER_WRITER, ended.output
        [line] = ended.said()
        assert "another process has moved the positions of table" in line
    keep_lake(lake)
    assert lake_wrong(lake) == {}


def records_of(settings: Settings) -> list[ConsumerRecord]:
    with Scanner(settings) as scanner:
        return [from_confluent(item) for item in scanner.read(dict.fromkeys(scanner.topic_partitions(TOPICS)))]


def writer(settings: Settings) -> Writer:
    return Writer(load_catalog(settings), lake_tables(settings), read_topics(settings).ids, "here")


def test_a_writer_that_knows_old_positions_writes_nothing(lake: Settings) -> None:
    """Whatever rows it has: Delta refuses each of its commits."""
    keep_lake(lake)  # empty tables
    write(lake, published(lake)[:300])
    records = records_of(lake)
    first, second = writer(lake), writer(lake)
    first.write(records)
    before = {table.table.name: table.delta.version() for table in lake_tables(lake)}
    for given in (records, records[-1:]):
        with pytest.raises(OtherWriter, match="another process has moved the positions of table"):
            second.write(given)
    assert {table.table.name: table.delta.version() for table in lake_tables(lake)} == before
    assert lake_wrong(lake) == {}


def test_delta_itself_refuses_two_commits_of_the_same_transaction_identifier(lake: Settings) -> None:
    """Also where a commit might be rebased: it adds no rows, and reads none."""
    keep_lake(lake)
    [table] = [item for item in lake_tables(lake) if item.table.name == "patient"]
    place = min(table.partitions)
    noted = CommitProperties(app_transactions=[Transaction(position_id(place), 7)], max_commit_retries=10)
    one, other = DeltaTable(table.delta.table_uri), DeltaTable(table.delta.table_uri)
    nothing = table.delta.to_pyarrow_table()
    write_deltalake(one, nothing, mode="append", commit_properties=noted)
    with pytest.raises(CommitFailedError):
        write_deltalake(other, nothing, mode="append", commit_properties=noted)


def test_compaction_meanwhile_is_no_other_writer(lake: Settings) -> None:
    keep_lake(lake)
    write(lake, published(lake)[:400])
    records, following = records_of(lake), writer(lake)
    for number in range(0, len(records), 100):
        following.write(records[number : number + 100])
        assert open_lakehouse(lake).tidy(keep_hours=1) >= 0
    assert lake_wrong(lake) == {}


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_with_an_unknown_result_is_neither_lost_nor_repeated(
    lake: Settings, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """The folder fails once, after or before the commit."""
    keep_lake(lake)
    write(lake, published(lake)[:300])
    records, following = records_of(lake), writer(lake)
    [before] = [table.delta.version() for table in lake_tables(lake) if table.table.name == "patient"]
    append, failing = LakeTable._append, ["patient"]

    def fails(self: LakeTable, *given: object) -> None:
        if committed or self.table.name not in failing:
            append(self, *given)  # type: ignore[arg-type]  # passed on as given
        if self.table.name in failing:
            failing.remove(self.table.name)
            raise StoreUnavailable("table patient: OSError")

    monkeypatch.setattr(LakeTable, "_append", fails)
    with pytest.raises(StoreUnavailable):
        following.write(records)
    following.write(records)
    assert failing == []
    assert lake_wrong(lake) == {}
    versions = {table.table.name: table.delta.version() for table in lake_tables(lake)}
    assert versions["patient"] == before + 1
