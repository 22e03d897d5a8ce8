"""The pipeline in a real Chromium, with every column filled, as it looks where all of it runs."""

import math
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer
from playwright.sync_api import Browser, Locator, Page, expect

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.registry import VENDORS
from fhirline.streams.deliver.stage import deliver_group
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.headers import RECEIVED_AT
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import BUNDLE, raw_topic
from tests.streams.console.conftest import browser, of_the_demo
from tests.support.browser import Visit
from tests.support.console_pages import TOKEN, Visitor, console
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.load import load_on
from tests.support.processes import Command
from tests.support.tables import keep_once
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

__all__ = ["browser"]

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@dataclass(slots=True)
class Site:
    url: str
    process: Command
    settings: Settings


def received(record: ProducerRecord, minutes_ago: float = 0) -> ProducerRecord:
    """Return a raw record as if it had been received some minutes ago."""
    at = Instant.at(datetime.now(UTC) - timedelta(minutes=minutes_ago))
    headers = [(name, at.text.encode() if name == RECEIVED_AT else value) for name, value in record.headers]
    return replace(record, headers=headers, timestamp_ms=at.milliseconds)


def within_an_hour(records: Iterable[ProducerRecord]) -> Iterator[ProducerRecord]:
    """Spread records over the last 55 minutes, in their order, in waves."""
    every = list(records)
    for number, record in enumerate(every):
        place = number / len(every)
        yield received(record, 55 * (1 - place - math.sin(place * 19) / 40))


@contextmanager
def joined(settings: Settings, group: str, topics: list[str]) -> Iterator[None]:
    """Join a group as its only process, which takes all that its topics hold."""
    own = {"group.id": group, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500}
    consumer = Consumer(librdkafka(settings, **own))
    ended, has = threading.Event(), threading.Event()
    consumer.subscribe(topics, on_assign=lambda *_: has.set())

    def follow() -> None:
        while not ended.is_set():
            consumer.poll(0.2)
        consumer.close()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        wait_until(has.is_set, lambda: f"the group {group} has no process")
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A console on some dozens of events, delivered and in SQL tables, and what the demo sends while it runs.

    Nobody asks the FHIR server: the console reads what the delivery has committed.
    """
    tables = f"duckdb:{tmp_path_factory.mktemp('tables') / 'tables.duckdb'}"
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        load = load_on(RunningBroker("embedded", broker.bootstrap))
        load.at_receipt = True
        load.send(within_an_hour(load.events(90, seed=31)))
        kept = keep_once(load.settings, "--to", tables)
        assert kept.wait(0) == 0, kept.output
        own = {"FHIRLINE_FHIR_SERVER": "http://127.0.0.1:9/fhir", "FHIRLINE_TABLES_URL": tables}
        with (
            joined(load.settings, load.settings.group, [raw_topic(vendor) for vendor in VENDORS]),
            joined(load.settings, deliver_group(load.settings), [BUNDLE]),
            console(load.settings, **own) as (url, process),
        ):
            load.send(map(received, of_the_demo(load.tenant)))
            visitor = Visitor(url).log_in()
            rate = r'href="/pipeline/partitions[^"]+">\d+\.\d</a>'
            wait_until(
                lambda: re.search(rate, visitor.get("/").text) is not None, lambda: process.report("tells no rate")
            )
            yield Site(url, process, load.settings)


def opened(visit: Visit, site: Site) -> Page:
    """Log in, and wait until the first page has its figures."""
    visit.page.goto(f"{site.url}/login?token={TOKEN}")
    expect(became(visit.page).get_by_role("row", name="status_update").get_by_role("link").nth(4)).to_be_visible()
    return visit.page


def became(page: Page) -> Locator:
    return page.get_by_role("group", name="What became of it")


@pytest.mark.parametrize("dark", [False, True])
def test_no_view_violates_a_rule_of_accessibility(site: Site, browser: Browser, dark: bool) -> None:
    visit = Visit(browser, dark)
    page = opened(visit, site)
    found = {"pipeline": visit.violations()}
    visit.picture("pipeline")
    status = became(page).get_by_role("row", name="status_update")
    links = [link.get_attribute("href") or "" for link in status.get_by_role("link").all()]
    links += ["/pipeline/topics", f"/pipeline/group?name={site.settings.group}"]
    links.append(f"/pipeline/partitions?topic=raw.altibbi&group={site.settings.group}")
    assert any("since=" in link for link in links)
    assert any("/pipeline/latency?" in link for link in links)
    for link in links:
        page.goto(site.url + link)
        found[link] = visit.violations()
        page.set_viewport_size({"width": 640, "height": 450})
        assert page.evaluate(FITS), link
        page.set_viewport_size({"width": 1280, "height": 900})
    assert {path: rules for path, rules in found.items() if rules} == {}
    assert visit.complaints == []
    visit.close()


def test_the_pipeline_with_all_its_columns_fits(site: Site, browser: Browser) -> None:
    visit = Visit(browser)
    page = opened(visit, site)
    inside = "table => table.firstElementChild.scrollWidth <= table.clientWidth"
    assert became(page).evaluate(inside), "of a window of 1,280 points nothing is cut off"
    page.set_viewport_size({"width": 640, "height": 450})
    assert page.evaluate(FITS)
    assert visit.complaints == []
    visit.close()
