"""Changes under a lakehouse: views, topics, and patients who are erased."""

import re
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from deltalake import DeltaTable
from pydantic import SecretStr

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import DONE, UNUSABLE
from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.operate.doctor import warehouse
from fhirline.streams.operate.doctor.finding import Level
from fhirline.streams.operate.status.reading import Ends
from fhirline.streams.operate.status.warehouse import read_tables
from fhirline.streams.tables.catalog import load_catalog
from fhirline.streams.tables.delta.lakehouse import least_positions
from fhirline.streams.tables.delta.rebuilding import LakeRebuild
from fhirline.streams.tables.open_store import open_lakehouse, open_store
from fhirline.streams.tables.store import OtherWriter
from fhirline.streams.tables.topics import Topics, read_topics
from fhirline.topics.declared import OUTCOME
from tests.streams.tables.test_changes import erased, folder_with, one_more
from tests.support.cli import run
from tests.support.kafka.brokers import create_topics
from tests.support.lakehouse import files_with, keep_lake, lake_held, lake_rows, lake_wrong
from tests.support.receiving import environment
from tests.support.tables import published, write

pytestmark = pytest.mark.long

MOST = 900
"""Records of a test: the last of the golden cases, where patients have names."""


def test_rows_of_an_erased_patient_go_and_after_compaction_the_bytes_too(lake: Settings, tmp_path: Path) -> None:
    """Nothing of the patient is in any file of the folder: not in Parquet, and not in Delta's logs."""
    mark, records = secrets.token_hex(32), published(lake)
    found = next(item for item in records if item.topic == "fhir.r4.Patient" and b'"family"' in (item.value or b""))
    patient = orjson.loads(found.value or b"")
    for name in patient["name"]:
        name["family"] = mark
    records.append(replace(found, value=orjson.dumps(patient)))
    views = folder_with(tmp_path / "views", people=one_more)
    write(lake, records)
    keep_lake(lake.model_copy(update={"tables_views": views}))  # the view `people` is gone afterwards
    folder = open_lakehouse(lake).folder
    assert files_with(folder, mark) != []
    tombstones = erased(records, found.key.decode())
    assert len(tombstones) > 1
    write(lake, tombstones)
    keep_lake(lake)
    assert lake_wrong(lake) == {}
    assert files_with(folder, mark) != [], "files of old versions are deleted too early for who reads them"
    assert open_lakehouse(lake).tidy(keep_hours=0) > 0
    assert files_with(folder, mark) == []
    assert files_with(folder, patient["id"]) == []
    assert lake_wrong(lake) == {}
    LakeRebuild(lake, open_lakehouse(lake), load_catalog(lake), read_topics(lake)).of_views(load_catalog(lake).tables)
    assert lake_wrong(lake) == {}, "outcomes of erased events, which are on their topic still, came again"
    LakeRebuild(lake, open_lakehouse(lake), load_catalog(lake), read_topics(lake)).of_everything()
    assert lake_wrong(lake) == {}, "tables that are filled after the erasure have rows of erased events"
    keep_lake(lake, drop_gone=True)
    assert "people" not in open_lakehouse(lake).names()


def test_a_changed_and_a_new_view_are_rebuilt_alone(lake: Settings, tmp_path: Path) -> None:
    records = published(lake)[-MOST:]
    write(lake, records)
    keep_lake(lake)
    house = open_lakehouse(lake)
    views = folder_with(tmp_path / "views", patient=one_more, people=one_more)
    changed = lake.model_copy(update={"tables_views": views})
    [warned] = warehouse.database(changed)
    assert (warned.level, "people" in warned.text) == (Level.WARNING, True)
    write(lake, records[: len(records) // 2])
    keep_lake(changed)
    assert lake_wrong(changed) == {}
    overwritten = [name for name in house.names() if "Overwrite" in modes(DeltaTable(house.path / name))]
    assert overwritten == ["patient", "people"]
    assert lake_rows(house)("select count(*) from fhir.people where names > 0") != [(0,)]
    assert any(
        field.metadata["comment"] == "Number of names." for field in DeltaTable(house.path / "people").schema().fields
    )
    assert not (house.path / "_new").exists()
    [well] = warehouse.database(changed)
    assert well.level == Level.OK


def test_outcomes_that_their_topic_has_no_longer_are_carried_over(lake: Settings) -> None:
    """The rebuild is given the topics without outcomes, as if retention had deleted all of them."""
    write(lake, published(lake)[-MOST:])
    keep_lake(lake)
    topics = read_topics(lake)
    places = tuple(place for place in topics.partitions if place.topic != OUTCOME)
    less = Topics(places, topics.ids, topics.tombstone_seconds)
    LakeRebuild(lake, open_lakehouse(lake), load_catalog(lake), less).of_views(load_catalog(lake).tables)
    assert lake_wrong(lake) == {}


def test_a_rebuild_beside_another_writer_leaves_the_table_as_it_was(
    lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is written after the rebuilt table was read, and before it comes into its place."""
    records = published(lake)[-MOST:]
    write(lake, records[:500])
    keep_lake(lake)
    load = LakeRebuild._load

    def meanwhile(self: LakeRebuild, *given: Any) -> Any:
        found = load(self, *given)
        write(lake, records[500:])
        keep_lake(lake)
        return found

    monkeypatch.setattr(LakeRebuild, "_load", meanwhile)
    work = LakeRebuild(lake, open_lakehouse(lake), load_catalog(lake), read_topics(lake))
    with pytest.raises(OtherWriter, match="rebuild again"):
        work.of_views(["event_flag"])
    assert lake_wrong(lake) == {}


def test_topics_that_were_made_anew_are_refused_until_all_is_rebuilt(lake: Settings) -> None:
    records = published(lake)[-MOST:]
    write(lake, records)
    keep_lake(lake)
    with EmbeddedBroker() as other:
        create_topics(other.bootstrap)
        elsewhere = lake.model_copy(update={"bootstrap": other.bootstrap})
        write(elsewhere, records[: len(records) // 2])
        with pytest.raises(ConfigurationError, match=r"was made anew.*tables rebuild --all"):
            keep_lake(elsewhere)
        LakeRebuild(
            elsewhere, open_lakehouse(elsewhere), load_catalog(elsewhere), read_topics(elsewhere)
        ).of_everything()
        write(elsewhere, records[len(records) // 2 :])
        keep_lake(elsewhere)
        assert lake_wrong(elsewhere) == {}


def test_status_and_doctor_tell_how_the_tables_are(lake: Settings) -> None:
    [empty] = warehouse.database(lake)
    assert (empty.level, "has no tables yet" in empty.text) == (Level.WARNING, True)
    write(lake, published(lake)[:100])
    keep_lake(lake)
    house, places = open_lakehouse(lake), read_topics(lake).partitions
    ends = {place: Ends(0, at) for place, at in least_positions(house, load_catalog(lake), places).items()}
    found = read_tables(lake, ends)
    assert found is not None
    assert (found.lag, found.problem) == (0, "")
    place = next(iter(ends))
    behind = read_tables(lake, ends | {place: Ends(0, ends[place].end + 7)})
    assert behind is not None
    assert (behind.lag, behind.lag_most) == (7, 7)


def test_the_command_compacts_and_refuses_what_is_none(lake: Settings, tmp_path: Path) -> None:
    for url in ("delta:s3://bucket/lake", "delta:"):
        with pytest.raises(ConfigurationError, match="a folder of this machine"):
            open_lakehouse(lake.model_copy(update={"tables_url": url}))
    with pytest.raises(ConfigurationError, match="is a lakehouse"):
        open_store(lake)
    none = run("tables", "compact", "--to", f"delta:{tmp_path}/none", env=environment(lake.bootstrap))
    assert none.returncode == UNUSABLE
    assert "has no tables" in none.stderr
    write(lake, published(lake)[:200])
    keep_lake(lake)
    done = run("tables", "compact", "--keep-hours", "0", "--to", lake.tables_url or "", env=environment(lake.bootstrap))
    assert done.returncode == DONE, done.stderr
    assert re.search(r"\d files? deleted", done.stdout)
    assert lake_wrong(lake) == {}


def test_tables_without_identities_have_a_schema_of_their_own(lake: Settings) -> None:
    write(lake, published(lake)[:400])
    keep_lake(lake)
    hidden = lake.model_copy(update={"tables_without_identities": True, "research_key": SecretStr("k" * 40)})
    keep_lake(hidden)
    assert "record" not in open_lakehouse(hidden).names()
    with_ids, found = patient_ids(lake), patient_ids(hidden)
    assert len(found) == len(with_ids) > 0
    assert not found & with_ids
    with pytest.raises(ConfigurationError, match="has tables with identities"):
        keep_lake(hidden.model_copy(update={"research_schema": "fhir", "tables_schema": "other"}))
    assert lake_held(open_lakehouse(lake))["record"].total() > 0


def modes(delta: DeltaTable) -> set[str]:
    return {commit.get("operationParameters", {}).get("mode", "") for commit in delta.history()}


def patient_ids(settings: Settings) -> set[str]:
    rows = DeltaTable(open_lakehouse(settings).path / "patient").to_pyarrow_table(columns=["resource_id"])
    return {*rows.column(0).to_pylist()}
