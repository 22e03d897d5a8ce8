"""The last hour, rates, ages, latencies and groups of the pipeline lead to what they count, too."""

import itertools
import re
import statistics
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.event_listing import Chosen
from fhirline.streams.console.index_entries import LATEST, MINUTES
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.demo.webhooks import samples
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.console.figures import HOUR, figures, listed, require_lists
from tests.support.console_pages import Visitor, console
from tests.support.kafka.brokers import RunningBroker, create_topics, settings_for
from tests.support.load import Load, load_on
from tests.support.processes import Command
from tests.support.waiting import wait_until

STATUS = next(sample.body for sample in samples() if sample.event == "status_update")
RECENT, OLD, LETTERS = 130, 3, 2


@dataclass(slots=True)
class Recent:
    load: Load
    process: Command
    visitor: Visitor

    def until(self, words: str) -> re.Match[str]:
        """Wait until the pipeline's page matches ``words``, and return the match."""
        found: list[re.Match[str] | None] = [None]

        def matches() -> bool:
            found.append(re.search(words, self.visitor.get("/").text, re.S))
            return found[-1] is not None

        wait_until(matches, lambda: self.process.report(self.visitor.get("/").text))
        last = found[-1]
        assert last
        return last


def status_update(tenant: str, number: int, seconds_ago: float, whole: bool = True) -> ProducerRecord:
    """An event that was received some time ago. Not ``whole``: it becomes a dead letter."""
    body = {**STATUS, "consultation_id": 70_000 + number}
    if not whole:
        body = {name: body[name] for name in ("type", "consultation_id")}
    at = Instant.at(datetime.now(UTC) - timedelta(seconds=seconds_ago))
    return raw_record("altibbi", tenant, orjson.dumps(body), at, None, 64)


@pytest.fixture(scope="module")
def recent() -> Iterator[Recent]:
    """More events in half an hour than latencies count, others of two hours ago, and dead letters."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        load = load_on(RunningBroker("embedded", broker.bootstrap))
        tenant = load.tenant
        load.send([status_update(tenant, number, 1_800 * number / RECENT) for number in range(RECENT)])
        load.send([status_update(tenant, 1_000 + number, 7_200) for number in range(OLD)])
        load.send([status_update(tenant, 2_000 + number, 60, whole=False) for number in range(LETTERS)])
        with console(load.settings) as (url, process):
            yield Recent(load, process, Visitor(url).log_in())


def test_the_last_hour_counts_what_was_received_in_it(recent: Recent) -> None:
    visitor = recent.visitor
    wait_until(
        lambda: ("altibbi", "status_update") in figures(visitor.get("/").text),
        lambda: recent.process.report("counts none"),
    )
    row = figures(visitor.get("/").text)["altibbi", "status_update"]
    assert row["Received"].number == RECENT + OLD + LETTERS
    assert row[HOUR].number == RECENT + LETTERS
    require_lists(visitor, {("altibbi", "status_update"): row})
    page = visitor.get(row[HOUR].page).text
    assert page.count("dead letter</a>") == LETTERS
    times = re.findall(r'<td class="when">([^<]+ UTC)</td>', page)
    assert times == sorted(times, reverse=True), "they stand in the order in which they were received"
    assert len(set(times)) > RECENT / 2
    assert visitor.get("/events?since=yesterday").status == 400


def test_the_minutes_of_the_last_hour_sum_up_to_it() -> None:
    now = 1_764_340_290_000  # of half a minute
    times = [now, now - 29_000, now - 31_000, now - 58 * 60_000, now - 61 * 60_000, now + 600_000]
    with closing(EventIndex(settings_for("127.0.0.1:9"))) as index:
        new = [(str(time), "altibbi", "t", "x", time) for time in times]
        index._database.executemany(
            "INSERT INTO event (event_key, vendor, tenant, type, received) VALUES (?, ?, ?, ?, ?)", new
        )
        index._database.execute("UPDATE event SET written = received + 1500")
        (count,) = index.listing.type_counts(now)
        assert index.listing.count(Chosen("altibbi", "x", since=count.hour.since)) == count.hour.events == 5
    minutes = [0] * MINUTES
    minutes[-1], minutes[-2], minutes[1] = 3, 1, 1  # a receipt in the future counts as now
    assert count.hour.minutes == minutes
    assert count.latency == 1.5


def test_the_latency_leads_to_the_events_that_it_is_the_median_of(recent: Recent) -> None:
    shown = recent.until(r'href="(/pipeline/latency\?[^"]+type=status_update)">([^<]+)</a>')
    page = recent.visitor.get(unescape(shown[1])).text
    told = re.search(r"published: (.+) is the median of the last 100 events", page)
    assert told
    assert told[1] == shown[2]
    assert listed(page) == LATEST
    event = re.findall(r'<a href="(/events/altibbi/[^"]+)">', page)[0]
    assert "status_update" in recent.visitor.get(event).text
    assert recent.visitor.get("/pipeline/latency?vendor=altibbi&type=nothing").status == 404


def test_the_events_of_a_latency_are_the_last_ones_the_slowest_first() -> None:
    now = 1_764_340_290_000
    with closing(EventIndex(settings_for("127.0.0.1:9"))) as index:
        new = [
            (str(number), "altibbi", "t", "x", now + 10 * number, now + 10 * number + number % 7)
            for number in range(150)
        ]
        index._database.executemany(
            "INSERT INTO event (event_key, vendor, tenant, type, received, written) VALUES (?, ?, ?, ?, ?, ?)", new
        )
        found = index.listing.slowest("altibbi", "x")
        (count,) = index.listing.type_counts(now)
    seconds = [latency for _, latency in found]
    assert {event.name for event, _ in found} == {str(number) for number in range(50, 150)}
    assert seconds == sorted(seconds, reverse=True)
    assert count.latency == statistics.median(seconds) > 0


def test_rate_and_age_of_a_vendor_lead_to_its_records(recent: Recent) -> None:
    """The page tells by partition what came in the last minute, and which record was the last one."""
    numbers = itertools.count(5_000)

    def one_reading() -> tuple[str, str] | None:
        """Return the rate as the pipeline has it, and the page behind it, both of one reading."""
        recent.load.send([status_update(recent.load.tenant, next(numbers), 0)])
        rate = r'href="(/pipeline/partitions\?topic=raw.altibbi[^"]+)">([\d,]+\.\d)</a>'
        before = re.search(rate, recent.visitor.get("/").text)
        page = recent.visitor.get(unescape(before[1])).text if before else ""
        after = re.search(rate, recent.visitor.get("/").text)
        return (before[2], page) if before and after and before[2] == after[2] else None

    found: list[tuple[str, str] | None] = []

    def read() -> bool:
        found.append(one_reading())
        return found[-1] is not None

    wait_until(read, lambda: recent.process.report("tells no rate"))
    assert found[-1]
    rate, page = found[-1]
    told = re.search(r"(\d+) of them came in the (\d+) seconds before [^:]+:\d+:\d+ UTC: ([\d.]+) per second", page)
    assert told
    assert told[3] == rate
    rows = re.findall(r'<td class="figure(?: attention)?">([\d,]+)</td>' * 6, page)
    assert sum(int(row[5]) for row in rows) == int(told[1]) > 0
    last = re.search(r'The last one came [^:]+: <a href="(/events\?q=raw.altibbi[^"]+)">', page)
    assert last
    event = unescape(last[1])
    wait_until(lambda: recent.visitor.get(event).status == 303, lambda: recent.process.report(f"does not find {event}"))
    recent.until(r'href="/pipeline/partitions\?topic=raw.altibbi[^"]+">\d+ (?:s|min)</a>')


def test_a_group_leads_to_its_partitions_without_a_process(recent: Recent) -> None:
    """No worker runs: none of them has one."""
    told = recent.until(r'href="(/pipeline/group\?name=[^"]+)">0 processes, (\d+) of (\d+) partitions without one</a>')
    page = recent.visitor.get(unescape(told[1])).text
    assert told[2] == told[3]
    assert page.count('<span class="attention">no</span>') == int(told[2]) > 0
    assert recent.visitor.get("/pipeline/group?name=x").status == 404


def test_the_records_of_the_canonical_topics_are_told_per_topic(recent: Recent) -> None:
    told = recent.until(r'href="/pipeline/topics">([\d,]+) records</a>')
    page = recent.visitor.get("/pipeline/topics").text
    rows = re.findall(r'<th scope="row">(fhir\.r4\.\w+)</th><td class="figure">([\d,]+)</td>', page)
    total = sum(int(count.replace(",", "")) for _, count in rows)
    assert f"<p>{total:,} records" in page
    assert total >= int(told[1].replace(",", "")) > 0
    assert 'id="tables"' not in page, "there are no tables"
