"""Exports of the golden cases' resources from a real broker, read by the programs that they are for."""

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import confluent_kafka
import duckdb
import orjson
import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition, produce
from fhirline.streams.operate.export.newest import newest
from fhirline.streams.operate.export.request import JOURNAL, Request
from fhirline.streams.operate.export.run import Exported, export
from fhirline.streams.tables.catalog import load_catalog
from fhirline.topics.declared import OUTCOME, RESOURCE_TYPES, canonical_topic
from tests.support import cli
from tests.support.delivery import golden_records, write
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.kafka.producing import patient_producer
from tests.support.receiving import environment
from tests.support.tables import of_the_demo
from tests.support.waiting import LIMIT

GONE = "Patient/11111111-1111-5111-8111-111111111111"
"""A patient of whom the topic has a tombstone alone."""


@dataclass(frozen=True)
class Source:
    settings: Settings
    last: dict[str, bytes | None]


@pytest.fixture(scope="module")
def leader() -> Iterator[Source]:
    """A broker with what a worker publishes of all golden cases, each key several times."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap, partitions=2)
        settings = RunningBroker("embedded", broker.bootstrap).settings(partitions=2)
        records = [record for record in golden_records(settings) if record.topic != "fhir.r4.bundle"]
        partitions: dict[bytes, set[int | None]] = {}
        for record in records:
            partitions.setdefault(record.key, set()).add(record.partition)
        # One case stands for a tenant whose enrichment was switched on later, without tombstones (mapping.md §10).
        kept = [record for record in records if len(partitions[record.key]) == 1]
        write(settings, (record for record in of_the_demo(settings) if record.topic == OUTCOME))
        tombstone = ProducerRecord(canonical_topic("Patient"), GONE.encode(), None, 0, headers(vendor="mediquo"))
        yield Source(settings, write(settings, [*kept, *kept, tombstone]))


def request(source: Source, **more: Any) -> Request:
    whole = Request(
        source.settings.base, RESOURCE_TYPES, ndjson=True, views=tuple(load_catalog(source.settings).tables)
    )
    return replace(whole, **more)


def exported(source: Source, folder: Path, between: Callable[[], None] = lambda: None, **more: Any) -> Exported:
    asked = request(source, **more)
    catalog = load_catalog(source.settings) if asked.views else None
    return export(source.settings, folder, asked, catalog, "fhirline export", between=between)


def lines(folder: Path) -> dict[str, bytes]:
    """The resources of all NDJSON files by their keys, each of which is there once."""
    found: dict[str, bytes] = {}
    for path in folder.glob("*.ndjson"):
        for line in path.read_bytes().splitlines():
            resource = orjson.loads(line)
            assert resource["resourceType"] == path.stem
            key = f"{resource['resourceType']}/{resource['id']}"
            assert key not in found
            found[key] = line
    return found


def files(folder: Path) -> dict[str, str]:
    """The digests of all files but the manifest, which has a time."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def test_ndjson_holds_the_last_value_of_each_key(leader: Source, tmp_path: Path) -> None:
    manifest = exported(leader, tmp_path, views=()).manifest
    living = {key: value for key, value in leader.last.items() if value is not None}
    found = lines(tmp_path)
    assert {key: found[key] for key in living} == living
    assert GONE not in found
    for file in manifest["output"]:
        content = (tmp_path / file["url"]).read_bytes()
        assert file["count"] == content.count(b"\n")
        assert file["extension"] == {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()} == {0o600}
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.long
def test_duckdb_polars_and_pandas_read_the_parquet_files(leader: Source, tmp_path: Path) -> None:
    """All three find the rows that the views make of the exported resources."""
    import pandas  # both take seconds to import, in each process that collects tests
    import polars

    exported(leader, tmp_path)
    resources = [orjson.loads(value) for value in lines(tmp_path).values()]
    read = 0
    for source in load_catalog(leader.settings).sources:
        name = source.table.name
        rows = [
            row
            for resource in resources
            if source.table.has_rows_of(resource["resourceType"])
            for row in source.convert(source.rows(resource))
        ]
        pattern = str(tmp_path / "parquet" / name / "*" / "*.parquet")
        if not rows:
            assert not (tmp_path / "parquet" / name).exists()
            continue
        read += 1
        columns = [column.name for column in source.table.columns]
        named = ", ".join(f'"{column}"' for column in columns)
        by_duckdb = duckdb.execute(
            f"select {named} from read_parquet('{pattern}', hive_partitioning = true)"
        ).fetchall()
        assert len(by_duckdb) == len(rows), name
        by_polars = polars.read_parquet(pattern, hive_partitioning=True)
        assert by_polars.columns == [*columns, "source_vendor"], name
        assert sorted(by_polars["resource_id"].to_list()) == sorted(row[0] for row in rows), name
        by_pandas = pandas.read_parquet(tmp_path / "parquet" / name)
        assert sorted(by_pandas["resource_id"]) == sorted(row[0] for row in rows), name
        assert set(by_pandas["source_vendor"]) <= {*VENDORS}
    assert read > 20
    parquet = tmp_path / "parquet"
    flags = duckdb.execute(f"select distinct source from read_parquet('{parquet}/event_flag/*/*.parquet')").fetchall()
    assert flags == [("tag",)], "docs/export.md says that outcomes are not read"
    types = (
        f"select count(*) from read_parquet('{parquet}/record/*/*.parquet') where resource_type = 'OperationOutcome'"
    )
    assert duckdb.execute(types).fetchall() == [(0,)]


class Stopped(Exception):
    """Stands for a kill: raised between two partitions, or within one."""


@pytest.mark.long
def test_a_stopped_export_goes_on_and_ends_with_the_same_files(leader: Source, tmp_path: Path) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    exported(leader, undisturbed)
    stops = 0

    def stop() -> None:
        raise Stopped

    while True:
        try:
            done = exported(leader, stopped, between=stop if stops % 7 < 6 else lambda: None)
        except Stopped:
            stops += 1
            for path in [*stopped.glob("*.ndjson")][:2]:  # a kill within the next partition leaves more than is noted
                with path.open("ab") as file:
                    file.write(b'{"resourceType":')
            (stopped / "parquet" / "half.parquet.part").write_bytes(b"PAR1")
        else:
            break
    assert stops == 6
    assert done.resumed == 6
    assert files(stopped) == files(undisturbed)


def test_another_request_and_other_files_are_refused(leader: Source, tmp_path: Path) -> None:
    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        exported(leader, tmp_path, between=stop)
    with pytest.raises(ConfigurationError, match="another vendors"):
        exported(leader, tmp_path, vendors=("altibbi",))
    exported(leader, tmp_path)
    with pytest.raises(ConfigurationError, match="finished export"):
        exported(leader, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(ConfigurationError, match="other files"):
        exported(leader, other)
    with pytest.raises(ConfigurationError, match=r"shadow\.fhir\.r4\.\w+ is missing"):
        exported(leader, tmp_path / "shadow", prefix="shadow.")


def test_vendors_types_and_times_choose(leader: Source, tmp_path: Path) -> None:
    exported(leader, tmp_path / "vendor", vendors=("altibbi",), types=("Condition", "Patient"), views=())
    assert {path.name for path in (tmp_path / "vendor").iterdir()} == {
        "Condition.ndjson",
        "Patient.ndjson",
        "manifest.json",
    }
    tags = {
        tag["code"]
        for line in lines(tmp_path / "vendor").values()
        for tag in orjson.loads(line)["meta"]["tag"]
        if tag["system"].endswith("/vendor")
    }
    assert tags == {"altibbi"}
    exported(leader, tmp_path / "later", since="2100-01-01T00:00:00Z", views=())
    assert {path.name for path in (tmp_path / "later").iterdir()} == {"manifest.json"}
    deleted = exported(leader, tmp_path / "since", since="2000-01-01T00:00:00Z", views=()).manifest["deleted"]
    assert [(file["type"], file["count"]) for file in deleted] == [("Bundle", 1)]
    [line] = (tmp_path / "since" / deleted[0]["url"]).read_bytes().splitlines()
    assert orjson.loads(line)["entry"] == [{"request": {"method": "DELETE", "url": GONE}}]


def test_the_command_says_what_it_wrote_and_what_is_wrong(leader: Source, tmp_path: Path) -> None:
    def run(*options: str) -> CompletedProcess[str]:
        environ = environment(leader.settings.bootstrap, FHIRLINE_PARTITIONS="2")
        return cli.run("export", *options, env=environ, cwd=tmp_path)

    done = run("--to", "out", "--type", "Condition", "--format", "ndjson", "--format", "parquet", "--view", "condition")
    other_than_progress = [line for line in done.stderr.splitlines() if not line.startswith("reading: ")]
    assert (done.returncode, other_than_progress) == (0, [])
    manifest = orjson.loads((tmp_path / "out" / "manifest.json").read_bytes())
    [file] = manifest["output"]
    rows = sum(part["count"] for part in manifest["extension"]["tables"])
    assert done.stdout == f"{file['count']} resources in 1 file and {rows} rows of 1 view written to out\n"
    for options, message in (
        (("--type", "Conditions"), "--type"),
        (("--vendor", "altibi"), "--vendor"),
        (("--since", "yesterday"), "--since: not an RFC 3339 instant"),
        (("--view", "condition"), "--view, --views: need --format parquet"),
        (("--format", "parquet", "--view", "conditions"), "--view"),
    ):
        refused = run("--to", "other", *options)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"fhirline: {message}")
        assert not (tmp_path / "other").exists()


@pytest.mark.long
def test_a_record_that_is_compacted_between_two_readings_is_not_missed(apache_kafka: RunningBroker) -> None:
    """Its key's later record is found in a third reading."""
    topic = "compacted-between"
    settings = apache_kafka.settings()
    partition = TopicPartition(topic, 0)
    producer = patient_producer(settings)

    def put(key: bytes, value: bytes) -> None:
        produce(producer, ProducerRecord(topic, key, value, 0))
        assert producer.flush(LIMIT) == 0

    admin = AdminClient({"bootstrap.servers": settings.bootstrap})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(LIMIT)
    readings = 0

    class Compacting(Scanner):
        def read(self, *arguments: Any, **more: Any) -> Iterator[Message]:
            nonlocal readings
            readings += 1
            if readings == 2:
                put(b"a", b"new")
                delete_before(admin, topic, 1)  # as compaction does with the superseded record
            yield from super().read(*arguments, **more)

    put(b"a", b"old")
    put(b"b", b"kept")
    with Compacting(settings) as scanner:
        found = [(message.key(), message.value()) for message in newest(scanner, partition)]
    assert readings == 3
    assert found == [(b"b", b"kept"), (b"a", b"new")]


def delete_before(admin: AdminClient, topic: str, offset: int) -> None:
    """Delete the records of a partition before an offset."""
    for answer in admin.delete_records([confluent_kafka.TopicPartition(topic, 0, offset)]).values():
        answer.result(LIMIT)
