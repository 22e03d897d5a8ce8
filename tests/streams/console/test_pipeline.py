"""The pipeline counts each event once, tells what became of it, of its Bundle and of its rows, and lists it."""

import re
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaTopicPartition

from fhirline.mappers.instants import Instant
from fhirline.mappers.registry import VENDORS, vendor_mapping
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.event_listing import TABLED, Chosen
from fhirline.streams.console.event_progress import BECAME, DELIVERIES
from fhirline.streams.deliver.stage import deliver_group
from fhirline.streams.deliver.state import Waiting
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.headers import EVENT_KEY, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, RecordPosition, TopicPartition, headers_of, position_of
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.dead_letters.cases import Mark, Status
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import BUNDLE, DEAD_LETTER_STATUS, OUTCOME, raw_topic
from tests.streams.console.conftest import of_the_demo
from tests.streams.console.figures import (
    ALWAYS,
    DELIVERY,
    MAPPING,
    NOT_KNOWN,
    TABLES,
    Figures,
    figures,
    require_lists,
    sums,
)
from tests.support.console_pages import Visitor, console
from tests.support.delivery import write
from tests.support.kafka.brokers import RunningBroker, settings_for
from tests.support.load import Load, load_on
from tests.support.tables import keep_once
from tests.support.waiting import wait_until

AT = Instant("2024-06-12T15:20:00Z", (1_718_205_600, ""))
SERVER = "http://127.0.0.1:9/fhir"
"""Nobody asks it: the console reads what the delivery has committed."""
FAILS = b'{"type": "status_update", "consultation_id": 1}'


@dataclass(slots=True)
class Sent:
    """``keys``: the event keys of all that was sent. ``bundles``: where the last Bundle of each event is."""

    load: Load
    keys: set[str]
    bundles: list[RecordPosition]


@pytest.fixture
def sent(own_broker: RunningBroker) -> Sent:
    """The demo's events, others, of which some are sent twice, and dead letters: of whole events, and of parts."""
    load = load_on(own_broker)
    fails = raw_record("altibbi", load.tenant, FAILS, AT, None, 64)
    unknown = raw_record("mediquo", load.tenant, b'{"type": "patient_flew_away"}', AT, None, 64)
    load.send([*of_the_demo(load.tenant), *load.events(60, seed=31), fails, unknown])
    with Scanner(load.settings) as scanner:
        bundles = scanner.read(dict.fromkeys(scanner.topic_partitions([BUNDLE])))
        last = {header(headers_of(item), EVENT_KEY): position_of(item) for item in bundles}
    return Sent(load, {header(raw.headers, EVENT_KEY) or "" for raw in load.raws}, [*last.values()])


def unknown_of_mediquo(sent: Sent) -> set[str | None]:
    """The event keys of MediQuo's events of a type without a name."""
    raws = [raw for raw in sent.load.raws if raw.topic == raw_topic("mediquo") and raw.value]
    return {
        header(raw.headers, EVENT_KEY)
        for raw in raws
        if orjson.loads(raw.value or b"{}").get("type") not in vendor_mapping("mediquo").events
    }


def commit(sent: Sent, offsets: dict[TopicPartition, int]) -> None:
    """Commit as the delivery does."""
    settings = sent.load.settings
    consumer = Consumer(librdkafka(settings, **{"group.id": deliver_group(settings), "enable.auto.commit": False}))
    try:
        consumer.commit(offsets=[KafkaTopicPartition(*place, at) for place, at in offsets.items()], asynchronous=False)
    finally:
        consumer.close()


def test_each_event_counts_once_and_is_in_the_tables_once_they_have_read_it(sent: Sent, tmp_path: Path) -> None:
    settings, tables = sent.load.settings, f"duckdb:{tmp_path / 'tables.duckdb'}"
    kept = keep_once(settings, "--to", tables)
    assert kept.wait(0) == 0, kept.output
    with console(settings, FHIRLINE_TABLES_URL=tables) as (url, process):
        visitor = Visitor(url).log_in()

        def read() -> Figures:
            return figures(visitor.get("/").text, *TABLES)

        wait_until(lambda: read() and sums(read())["In tables"], lambda: process.report("tells no rows"))
        found = read()
        assert require_lists(visitor, found) == {*ALWAYS, *TABLES}
        for row in found.values():
            assert row["Received"].number == sum(row[column].number for column in MAPPING)
        total = sums(found)
        with Board(settings, [*VENDORS]) as board:
            cases = board.read()
        assert total["Received"] == len(sent.keys - {case.last.event_key for case in cases}) + len(cases)
        assert total["Dead letters"] == len(cases) > 1
        assert found["mediquo", "unknown"]["Unknown"].number == len(unknown_of_mediquo(sent)) > 0
        assert found["azodha", "OpenTele"]["Unknown"].number > 0, "known, and not mapped"
        both = visitor.get("/events?vendor=altibbi").text
        assert len(re.findall(r'<a class="tag error" href="/dead-letters/event\?id=', both)) > 1

        done = [
            ProducerRecord(
                DEAD_LETTER_STATUS,
                case.id.encode(),
                Mark(Status.DONE, 2, None, case.last.position, "key", case.last.mapping_version).encode(),
            )
            for case in cases
        ]
        write(settings, done)
        wait_until(lambda: not sums(read())["Dead letters"], lambda: process.report("counts dead letters still"))
        now = sums(read())
        assert total["Partly"] < now["Partly"], "what was refused in part counts by what was published"
        assert now["Received"] == sum(now[column] for column in MAPPING) == now["In tables"]

        new = raw_record("mediquo", sent.load.tenant, b'{"type": "patient_sang"}', AT, None, 64)
        sent.load.send([new])
        wait_until(lambda: sums(read())["Received"] == now["Received"] + 1, lambda: process.report("sees no new event"))
        assert sums(read())["In tables"] == now["In tables"]
        require_behind(visitor)


def require_behind(visitor: Visitor) -> None:
    """Assert that the records that the tables have yet to read are more than none, and told per topic."""

    def behind() -> int:
        found = re.search(r'href="/pipeline/topics#tables">([\d,]+) records behind</a>', visitor.get("/").text)
        return int(found[1]) if found else 0

    wait_until(lambda: behind() > 0, lambda: visitor.get("/").text)
    topics = visitor.get("/pipeline/topics").text.partition('id="tables"')[2]
    rows = re.findall(r'<th scope="row">([^<]+)</th><td class="figure(?: attention)?">([\d,]+)</td>', topics)
    assert sum(int(count.replace(",", "")) for _, count in rows) == behind()
    assert dict(rows)[OUTCOME] != "0", "an event of an unknown type has an outcome and nothing else"


def test_each_bundle_is_delivered_waits_is_parked_or_refused(sent: Sent, tmp_path: Path) -> None:
    of_partition: dict[TopicPartition, list[int]] = defaultdict(list)
    for place in sent.bundles:
        of_partition[place.topic_partition].append(place.offset)
    most = max(of_partition, key=lambda place: len(of_partition[place]))
    offsets = sorted(of_partition.pop(most))
    assert len(offsets) > 3
    others = {place: max(found) + 1 for place, found in of_partition.items()}
    commit(sent, {most: offsets[-1], **others})
    patients = frozenset(["Patient/00000000-0000-5000-8000-000000000001"])
    held = [Waiting(offset, patients, (), "refused", offset == offsets[0]) for offset in offsets[:3]]
    fill = Waiting(offsets[-1], patients, (), "refused", True, owner=min(patients))  # at a first fill: of no Bundle
    write(sent.load.settings, [item.record(most.partition) for item in (*held, fill)])
    own = {"FHIRLINE_FHIR_SERVER": SERVER, "FHIRLINE_TABLES_URL": f"duckdb:{tmp_path / 'none.duckdb'}"}
    with console(sent.load.settings, **own) as (url, process):
        visitor = Visitor(url).log_in()

        def delivered() -> dict[str, int]:
            found = figures(visitor.get("/").text, *DELIVERY, *TABLES)
            return {column: sums(found)[column] for column in DELIVERY} if found else {}

        wanted = {"Delivered": len(sent.bundles) - 4, "To deliver": 1, "Parked": 2, "Refused": 1}
        wait_until(lambda: delivered() == wanted, lambda: process.report(f"tells {delivered()}"))
        found = figures(visitor.get("/").text, *DELIVERY, *TABLES)
        assert {row["In tables"] for row in found.values()} == {NOT_KNOWN}, "there are no tables to ask"
        assert require_lists(visitor, found) == {*ALWAYS, *DELIVERY}
        for row in found.values():
            assert row["Received"].number >= sum(row[column].number for column in DELIVERY)

        write(sent.load.settings, [item.ended(most.partition) for item in held])
        commit(sent, {most: offsets[-1] + 1})
        wanted = {"Delivered": len(sent.bundles), "To deliver": 0, "Parked": 0, "Refused": 0}
        wait_until(lambda: delivered() == wanted, lambda: process.report(f"tells {delivered()}"))
        commit(sent, {most: offsets[0]})  # somebody has them sent again
        wanted |= {"Delivered": len(sent.bundles) - len(offsets), "To deliver": len(offsets)}
        wait_until(lambda: delivered() == wanted, lambda: process.report(f"tells {delivered()}"))


def test_what_a_number_leads_to_is_found_by_indexes() -> None:
    """A page is asked for by many, and an index of events has 100,000 of them and more."""
    of = Chosen("altibbi", "status_update")
    ways = {
        of: "event_by_",
        **{of._replace(became=way): "event_by_became" for way in BECAME},
        **{of._replace(delivery=way): "event_by_delivery" for way in DELIVERIES},
        of._replace(tables=TABLED): "event_by_tabled",
        of._replace(since="2026-11-28T13:00:00Z"): "event_by_came",
    }
    with closing(EventIndex(settings_for("127.0.0.1:9"))) as index:
        index.progress.begin()
        for chosen, name in ways.items():
            asked: list[str] = []
            index._database.set_trace_callback(asked.append)
            index.listing.newest(chosen, 10)
            index.listing.count(chosen)
            index._database.set_trace_callback(None)
            assert len(asked) >= 2
            for statement in asked:
                plan = [row[3] for row in index._database.execute(f"EXPLAIN QUERY PLAN {statement}")]
                assert all(step.startswith("SEARCH") for step in plan), (statement, plan)
                assert name in plan[0] or "letter_by_type" in plan[0], (statement, plan)
