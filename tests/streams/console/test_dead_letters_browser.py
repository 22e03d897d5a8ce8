"""Dead letters and who waits in a real Chromium: accessible, and a redrive is followed with and without scripts."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from fhirline.mappers.instants import Instant
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.console.redriving import PAGE, PROGRESS, Redriving, redriving, refused_events
from tests.streams.console.test_parked import NEIGHBOUR, SOMEBODY, parked
from tests.support.browser import Visit, browser
from tests.support.console_pages import TOKEN
from tests.support.delivery import write
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.load import load_on
from tests.support.waiting import LIMIT, wait_until

__all__ = ["browser"]

pytestmark = pytest.mark.long

MEDIQUO = "/dead-letters/events?vendor=mediquo"
WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def site() -> Iterator[Redriving]:
    """A console that may redrive, events that take half a minute, and patients who wait."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        load = load_on(RunningBroker("embedded", broker.bootstrap))
        load.send(refused_events(load.tenant, 3_000))
        write(load.settings, parked())
        with redriving(load) as found:
            yield found


def begin(page: Page, site: Redriving) -> None:
    page.goto(f"{site.url}/dead-letters/events?vendor=altibbi")
    page.get_by_role("link", name="Redrive").click()
    page.get_by_role("button", name="Redrive").click()
    expect(page.get_by_role("status")).to_contain_text("Sending. ")


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_have_text("Stopped.")


@pytest.mark.parametrize("dark", [False, True])
def test_no_view_violates_a_rule_of_accessibility(site: Redriving, browser: Browser, dark: bool) -> None:
    visit = Visit(browser, dark)
    page = visit.page
    page.goto(f"{site.url}/login?token={TOKEN}")
    found = {}

    def look(name: str) -> None:
        found[name] = visit.violations()
        visit.picture(name)
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert not page.evaluate(WIDE), name
        page.evaluate("document.documentElement.style.fontSize = ''")

    page.goto(f"{site.url}/dead-letters/events?vendor=altibbi")
    page.get_by_text("Export 3,000 events as a file").click()
    look("export")
    page.goto(f"{site.url}{PAGE}?vendor=altibbi")
    look("redrive")
    begin(page, site)
    look("redrive-progress")
    page.goto(f"{site.url}/dead-letters")
    look("dead-letters-redriving")
    page.get_by_role("link", name="See its progress").click()
    stop(page)
    look("redrive-stopped")
    page.goto(f"{site.url}/dead-letters")
    page.get_by_role("link", name="2 patients wait").click()
    look("waiting")
    page.get_by_role("link", name=f"Resume {SOMEBODY if dark else NEIGHBOUR}").click()  # the other one is ordered
    look("resume")
    page.get_by_role("button", name="Resume 1 patient").click()
    expect(page.get_by_role("status")).to_contain_text("It was ordered that what waits for 1 patient is sent.")
    look("resumed")
    page.get_by_label("Refused as").select_option("conflict")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("group", name="Patients who wait").get_by_role("rowheader")).to_have_count(1)
    assert {name: rules for name, rules in found.items() if rules} == {}
    assert visit.complaints == []
    visit.close()


def test_a_redrive_is_followed_without_loading_the_page_again(site: Redriving, browser: Browser) -> None:
    visit = Visit(browser)
    page = visit.page
    page.goto(f"{site.url}/login?token={TOKEN}")
    begin(page, site)
    page.evaluate("window.kept = true")
    bar = page.get_by_role("progressbar")
    before = float(bar.get_attribute("value") or 0)
    page.wait_for_function("before => document.querySelector('progress').value > before", arg=before)
    page.get_by_role("button", name="Stop").focus()
    other = site.visitor()  # somebody else stops it while the keyboard is on the button
    assert other.post(f"{PROGRESS}/stop", **{"form-token": other.form_token(PROGRESS)}).status == 303
    site.until(other, "Stopped")
    page.get_by_role("link", name="All dead letters").focus()
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    assert page.evaluate("window.kept")
    assert visit.complaints == []
    visit.close()


def test_an_export_is_a_download_once_it_has_a_reason(site: Redriving, browser: Browser) -> None:
    visit = Visit(browser)
    page = visit.page
    page.goto(f"{site.url}/login?token={TOKEN}")
    page.goto(f"{site.url}/dead-letters/events?vendor=altibbi")
    page.get_by_text("Export 3,000 events as a file").click()
    expect(page.get_by_text("in a file of at most 1,000 events")).to_be_visible()
    expect(page.get_by_label("with keys and payloads")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "dead-letters-altibbi.jsonl"
    assert len(download.value.path().read_text("utf-8").splitlines()) == 3_000
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    site.load.send(
        [raw_record("mediquo", site.load.tenant, b'{"type": "patient_consultation_finished"}', at, None, 64)]
    )
    wait_until(lambda: "Export 1 event" in site.visitor().get(MEDIQUO).text, "the letter is not in the index")
    page.goto(f"{site.url}{MEDIQUO}")
    page.get_by_text("Export 1 event as a file").click()
    page.get_by_label("with keys and payloads").check()
    page.get_by_label("Reason").fill("a test")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert '"payload":' in download.value.path().read_text("utf-8")
    assert visit.complaints == []
    visit.close()


def test_without_scripts_a_redrive_is_begun_followed_and_stopped(site: Redriving, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(LIMIT * 1000)
    page = context.new_page()
    page.goto(f"{site.url}/login?token={TOKEN}")
    begin(page, site)
    other = site.visitor()
    assert other.post(f"{PROGRESS}/stop", **{"form-token": other.form_token(PROGRESS)}).status == 303
    expect(page.get_by_role("status")).to_have_text("Stopped.")  # the page loads itself again
    context.close()
