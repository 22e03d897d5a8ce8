"""Six questions that people have, each answered in a real Chromium from the first page by what is visible on pages.

Whoever asks knows what a person would know: an event key, the id of a resource, a vendor, a body.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from fhirline.mappers.instants import Instant
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.headers import EVENT_KEY, header
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.console.conftest import browser, of_the_demo
from tests.streams.console.review import NOW, ROW, WAS
from tests.streams.console.test_tried_tables import BODY
from tests.support.browser import Visit
from tests.support.console_pages import TOKEN, Visitor, console
from tests.support.erasure import SECRET
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.load import load_on
from tests.support.processes import Command
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

__all__ = ["browser"]

MOST = 6
"""Actions of a question: what is followed, pressed, chosen or filled in."""
FAILS = b'{"type": "status_update", "consultation_id": 1}'
NEW = b'{"type": "patient_flew_away"}'


@dataclass(slots=True)
class Site:
    """``prescribed``: the raw record of a prescription whose words have no row. ``refused``: of a dead letter."""

    url: str
    process: Command
    prescribed: ConsumerRecord
    refused: ConsumerRecord


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The demo's events and others, mapped with the packaged tables; the console has another row of one. No worker."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "tables").mkdir()
    (folder / "tables" / "frequency.yaml").write_text(ROW, "utf-8")
    own = {
        "FHIRLINE_TERMINOLOGY_DIR": str(folder / "tables"),
        "FHIRLINE_REPLAY_DIR": str(folder / "runs"),
        "FHIRLINE_ERASURE_KEY": SECRET,
    }
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        load = load_on(RunningBroker("embedded", broker.bootstrap))
        bodies = [("altibbi", BODY.encode()), ("altibbi", FAILS), ("mediquo", NEW)]
        made = [raw_record(vendor, load.tenant, body, at, None, 64) for vendor, body in bodies]
        raws = load.send([*load.events(60, seed=31), *of_the_demo(load.tenant), *made])
        prescribed, refused = (next(raw for raw in raws if raw.value == sent.value) for sent in made[:2])
        with console(load.settings, "--allow", "replay", **own) as (url, process):
            visitor = Visitor(url).log_in()
            wait_until(lambda: "Needs somebody" in visitor.get("/").text, lambda: process.report("has read nothing"))
            yield Site(url, process, prescribed, refused)


@dataclass(slots=True)
class Person:
    """Somebody before the first page, who uses what they see. ``actions``: what they did so far."""

    page: Page
    actions: int = 0

    def search(self, text: str) -> None:
        """Go to the search with its key, and search. Two actions."""
        self.page.keyboard.press("/")
        expect(self.page.get_by_role("search").get_by_role("textbox")).to_be_focused()
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")
        self.actions += 2

    def follow(self, link: str) -> None:
        self.page.get_by_role("link", name=link).click()
        self.actions += 1

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()
        self.actions += 1

    def choose(self, label: str, option: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(option)
        self.actions += 1

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)
        self.actions += 1

    def sees(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_role("main")).to_contain_text(text)


@pytest.fixture
def person(site: Site, browser: Browser) -> Iterator[Person]:
    visit = Visit(browser)
    visit.page.goto(f"{site.url}/login?token={TOKEN}")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Pipeline")
    found = Person(visit.page)
    yield found
    assert found.actions <= MOST
    assert visit.complaints == []
    visit.close()


def test_why_has_this_prescription_no_code(site: Site, person: Person) -> None:
    visitor = Visitor(site.url).log_in()
    event = visitor.get(visitor.get(f"/events?q={site.prescribed.position}").headers["Location"]).text
    prescription = re.findall(r"MedicationRequest/[0-9a-f-]{36}", event)[0]
    person.search(prescription)
    person.sees("to see which word has no row, and in which table")
    person.fill("Reason", "a patient asks")
    person.press("Reveal")
    person.sees("“Every full moon” has no row in the table frequency")
    expect(person.page.get_by_role("button", name="Draft a row for “Every full moon”")).to_be_visible()


def test_what_happened_to_an_event(site: Site, person: Person) -> None:
    person.search(header(site.prescribed.headers, EVENT_KEY) or "")
    person.sees(re.compile("recommendation_data.*of altibbi"))
    person.sees("Resources that it made")
    person.sees(re.compile(r"MedicationRequest/[0-9a-f-]{36}"))
    person.sees("Nothing was delivered to a FHIR server here.")


def test_what_happened_to_an_event_that_was_not_mapped(site: Site, person: Person) -> None:
    person.search(header(site.refused.headers, EVENT_KEY) or "")
    person.sees("Do:")


def test_is_anything_stuck(site: Site, person: Person) -> None:
    stuck = person.page.get_by_role("region", name="Needs somebody")
    expect(stuck).to_contain_text("36 of 36 partitions have no process of the group fhirline. Is its process running?")
    expect(stuck).to_contain_text(re.compile(r"\d+ events could not be mapped"))
    person.follow("See the dead letters")
    person.sees("Do:")


def test_try_this_payload(site: Site, person: Person) -> None:
    person.follow("Playground")
    person.choose("Vendor", "altibbi")
    person.fill("Body", BODY)
    expect(person.page.get_by_role("heading", name=re.compile(r"recommendation_data: \d+ resources"))).to_be_visible()
    person.sees("Every full moon")


def test_may_i_publish_this_change(site: Site, person: Person) -> None:
    person.follow("Changes")
    person.choose("Vendor", "altibbi")
    person.press("Compare")
    expect(person.page.get_by_role("status")).to_contain_text("Compared.")
    person.follow("See the run")
    person.sees("It can be published")
    codes = person.page.get_by_role("group", name="Changed codes of MedicationRequest")
    expect(codes.get_by_role("row", name=f"{WAS} {NOW}")).to_be_visible()
    person.follow("Publish …")
    person.sees("Before you publish: all workers must run this mapping and these tables.")


def test_show_me_what_a_vendor_started_to_send(site: Site, person: Person) -> None:
    person.follow("Count what is not mapped")
    person.choose("Vendor", "mediquo")
    person.fill("Reason", "the vendor announced something")
    person.press("Count")
    types = person.page.get_by_role("group", name="Event types that are not mapped")
    expect(types.get_by_role("row", name="patient_flew_away 1")).to_be_visible()
