"""Delivery of an event's resources: the delivery's state of each, those that wait, and the rows of tables."""

import re
import sqlite3
from collections.abc import Callable
from threading import Lock

import orjson
import pytest
from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.console.delivery_index import DeliveryIndex
from fhirline.streams.deliver.entries import DELETED, Entry, entries_of
from fhirline.streams.deliver.state import Sent, Waiting, sent_record, shared_record, topic_record
from fhirline.streams.kafka.headers import RAW, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, RecordPosition, headers_of, position_of
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.tables.views import load_views
from fhirline.topics.declared import BUNDLE
from tests.streams.cli.test_terminology import recommendation
from tests.support.console_pages import Visitor, console
from tests.support.delivery import write
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import load_on
from tests.support.waiting import wait_until

AT = Instant("2024-06-12T15:20:00Z", (1_718_205_600, ""))


def bundles(settings: Settings) -> dict[str, tuple[RecordPosition, list[Entry]]]:
    """Each raw position's Bundle."""
    with Scanner(settings) as scanner:
        return {
            header(headers_of(message), RAW) or "": (position_of(message), entries_of(message.value()))
            for message in scanner.read(dict.fromkeys(scanner.topic_partitions([BUNDLE])))
        }


def delivered(position: RecordPosition, entries: list[Entry]) -> list[ProducerRecord]:
    """Return the state records that `fhirline deliver` writes once it has sent a Bundle."""
    return [
        shared_record(entry.key, entry.digest)
        if entry.shared
        else sent_record(entry.key, Sent(position.offset, entry.digest), position.partition)
        for entry in entries
    ]


def states(page: str) -> dict[str, str]:
    table = page.partition("At the FHIR server")[2].partition("</table>")[0]
    found = re.findall(r"<code>([A-Z]\w+/[^<]+)</code></th><td>(.*?)</td>", table, re.S)
    return {resource: re.sub(r"<[^>]+>", "", cell) for resource, cell in found}


@pytest.fixture
def two(own_broker: RunningBroker) -> tuple[Settings, ConsumerRecord, ConsumerRecord]:
    """Two events of one consultation."""
    load = load_on(own_broker)
    drugs = {"frequency": "Every full moon"}, {"frequency": "once daily"}
    bodies = [recommendation(7, drugs[0]), recommendation(7, *drugs)]
    bodies[1]["datetime"] = "2024-06-02T12:00:00Z"
    first, second = load.send([raw_record("altibbi", load.tenant, orjson.dumps(body), AT, None, 64) for body in bodies])
    return load.settings, first, second


@pytest.mark.long
def test_each_resource_says_what_the_server_got(two: tuple[Settings, ConsumerRecord, ConsumerRecord]) -> None:
    settings, first, second = two
    made = bundles(settings)
    (at, entries), (later, after) = made[str(first.position)], made[str(second.position)]
    first_request = next(entry.key for entry in entries if entry.key.startswith("MedicationRequest/"))
    (second_request,) = {entry.key for entry in after if entry.key.startswith("MedicationRequest/")} - {first_request}
    patient = next(entry for entry in after if entry.key.startswith("Patient/"))
    with console(settings) as (url, process):
        visitor = Visitor(url).log_in()
        pages = [visitor.get(f"/events?q={raw.position}").headers["Location"] for raw in (first, second)]
        assert "Nothing was delivered to a FHIR server here" in visitor.get(pages[0]).text

        def told(page: str, condition: Callable[[dict[str, str]], bool]) -> dict[str, str]:
            wait_until(
                lambda: condition(states(visitor.get(page).text)), lambda: process.report(visitor.get(page).text)
            )
            return states(visitor.get(page).text)

        write(settings, delivered(at, entries))
        now = told(pages[0], lambda found: patient.key in found)
        assert now.keys() == {entry.key for entry in entries if not entry.key.startswith("Provenance/")}
        assert now[patient.key] == "delivered with this event&#39;s Bundle"
        assert now[first_request] == "an older value was delivered"  # the second event has another one
        shared = {entry.key for entry in entries if entry.shared}
        assert {now[key] for key in shared} == {"delivered, as this event has it"}
        now = states(visitor.get(pages[1]).text)
        assert now[second_request] == "not delivered"
        assert now[patient.key] == "delivered before, with the same content"

        waiting = Waiting(later.offset, frozenset([patient.key]), tuple(entry.key for entry in after), "invalid", True)
        older = sent_record(patient.key, Sent(at.offset, "0" * 32), at.partition)
        write(settings, [waiting.record(later.partition), older])
        now = told(pages[1], lambda found: found[second_request] == "waits")
        assert now[patient.key] == "an older value was delivered; the newest one waits"
        page = visitor.get(pages[1]).text
        assert f"<code>{later}</code> waits (invalid): the server refused it" in page
        assert f"<code>{later}</code> waits" in visitor.get(pages[0]).text  # it is of the same patient

        gone = sent_record(second_request, Sent(later.offset, DELETED), later.partition)
        write(settings, [waiting.ended(later.partition), gone, *delivered(later, [patient])])
        now = told(pages[1], lambda found: found[second_request] == "deleted there")
        assert now[patient.key] == "delivered with this event&#39;s Bundle"
        assert states(visitor.get(pages[0]).text)[patient.key] == "delivered since, with a later event&#39;s value"
        assert "waits (" not in visitor.get(pages[1]).text

        filled = sent_record(patient.key, Sent(later.offset + 5, patient.digest), later.partition)
        write(settings, [filled])  # a fill from the topics notes the end of the Bundles' partition
        told(pages[1], lambda found: "delivered by a fill" in found[patient.key])


def test_that_deliver_has_started_is_no_delivery() -> None:
    database = sqlite3.connect(":memory:")
    index = DeliveryIndex(database, Lock())
    for record, used in ((topic_record("x", 0), False), (sent_record("Patient/1", Sent(1, "0" * 32), 0), True)):
        index.apply(Message(record.topic, 0, 1, record.key, record.value, [], timestamp=(1, 1)))
        assert index.used is used
    assert database.execute("SELECT resource FROM sent").fetchall() == [("Patient/1",)]


def test_the_rows_of_a_resource_are_those_of_its_views(two: tuple[Settings, ConsumerRecord, ConsumerRecord]) -> None:
    settings, first, _ = two
    (_, entries) = bundles(settings)[str(first.position)]
    views = load_views(base=settings.base)
    request = next(entry.resource for entry in entries if entry.key.startswith("MedicationRequest/"))
    assert request
    with console(settings) as (url, _):
        visitor = Visitor(url).log_in()
        page = visitor.get(f"/events?q={first.position}").headers["Location"]
        before = visitor.get(page).text
        assert "<code>medication_request</code>, " in before
        assert "Rows of MedicationRequest" not in before
        assert "Every full moon" not in before
        shown = visitor.post(f"{page}/reveal", reason="a test", **{"form-token": visitor.form_token(page)}).text
        for name in ("medication_request", "dosage"):
            label = f'aria-label="Rows of MedicationRequest/{request["id"]} in {name}"'
            table = shown.partition(label)[2].partition("</table>")[0]
            cells = dict(re.findall(r'<th scope="row">(\w+)</th><td>(.*?)</td>', table))
            (row,) = views[name].rows(request)
            wanted = {column.name: value for column, value in zip(views[name].columns, row, strict=True)}
            assert cells.keys() == {column for column, value in wanted.items() if value is not None}
            assert cells["resource_id"] == request["id"]
