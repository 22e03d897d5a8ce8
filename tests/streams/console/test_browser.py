"""The pages in a real Chromium: accessible, without a refused script, usable with the keyboard and without scripts."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from fhirline.streams.kafka.records import ConsumerRecord
from tests.streams.console.conftest import Site
from tests.streams.console.test_tried_tables import BODY, FREQUENCY
from tests.support.browser import Visit
from tests.support.console_pages import TOKEN

pytestmark = pytest.mark.long

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
PARTITIONS = "topic=raw.altibbi&group=fhirline"
SAMPLE = "/playground?sample=altibbi%20status_update"


@pytest.fixture
def visit(stack: Site, browser: Browser) -> Iterator[Visit]:
    made = Visit(browser)
    made.page.goto(f"{stack.url}/login?token={TOKEN}")
    yield made
    assert made.complaints == []
    made.close()


def reveal(visit: Visit, site: Site, raw: ConsumerRecord | None = None) -> None:
    """Open an event, by default the planted one, and show its payload."""
    visit.page.goto(f"{site.url}/events?q={(raw or site.planted).position}")
    visit.page.get_by_label("Reason").fill("a test")
    visit.page.get_by_label("with the source of each element").check()
    visit.page.get_by_role("button", name="Reveal").click()
    expect(visit.page.get_by_role("group", name="Payload")).to_be_visible()


@pytest.mark.parametrize("dark", [False, True])
def test_no_view_violates_a_rule_of_accessibility(stack: Site, browser: Browser, dark: bool) -> None:
    visit = Visit(browser, dark)
    page = visit.page
    page.goto(f"{stack.url}/login")
    found = {"login": visit.violations()}
    page.goto(f"{stack.url}/login?token={TOKEN}")
    expect(page.get_by_role("table").first).to_be_visible()
    for path in ("/", "/events", "/dead-letters", "/dead-letters/events", "/terminology", SAMPLE):
        page.goto(stack.url + path)
        found[path] = visit.violations()
        if path != "/":  # its picture is of all columns (test_pipeline_browser.py)
            visit.picture(path.partition("?")[0].strip("/").replace("/", "-"))
    for link in ("/events?became=dead-letter", f"/pipeline/partitions?{PARTITIONS}"):
        page.goto(stack.url + link)
        found[link] = visit.violations()
    page.goto(f"{stack.url}/dead-letters/events")
    page.get_by_role("rowheader").first.get_by_role("link").click()
    found["dead letter"] = visit.violations()
    reveal(visit, stack)
    found["revealed"] = visit.violations()
    reveal(visit, stack, stack.prescription)
    found["prescription"] = visit.violations()
    page.get_by_role("heading", name="Payload and resources").evaluate("heading => heading.scrollIntoView()")
    visit.picture("event")
    page.goto(f"{stack.url}/terminology/frequency")
    page.locator("summary").first.click()
    found["table"] = visit.violations()
    visit.picture("table")
    page.goto(f"{stack.url}/terminology")
    page.get_by_label("Reason").fill("a test")
    page.get_by_role("button", name="Count").click()
    found["use of tables"] = visit.violations()
    visit.picture("use")
    page.goto(f"{stack.url}/events")
    page.get_by_text("Search by a patient's").click()
    page.get_by_label("Patient's key").fill("nobody")
    page.get_by_label("Reason").fill("a test")
    found["search by key"] = visit.violations()
    page.get_by_role("button", name="Find the events").click()
    found["found by key"] = visit.violations()
    visit.picture("found")
    assert {path: rules for path, rules in found.items() if rules} == {}
    assert visit.complaints == []
    visit.close()


def test_a_payload_runs_no_script(stack: Site, visit: Visit) -> None:
    reveal(visit, stack)
    expect(visit.page.get_by_role("group", name="Payload")).to_contain_text("<script>")
    assert visit.page.title() != "it ran"
    assert visit.page.locator("main script, main img").count() == 0


def test_the_value_that_an_element_came_from_is_marked(stack: Site, visit: Visit) -> None:
    reveal(visit, stack)
    expect(visit.page.get_by_text("Point at a value")).to_be_visible()  # by the script, which marks from then on
    element = visit.page.locator('.line[data-source^="/"]:visible').first
    element.hover()
    pointer = (element.get_attribute("data-source") or "").split(",")[0]
    marked = visit.page.get_by_role("group", name="Payload").locator(".line.marked")
    expect(marked.first).to_have_attribute("data-pointer", pointer)


def test_the_keyboard_reaches_the_content_the_search_and_an_event(stack: Site, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{stack.url}/events")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    expect(page.get_by_label("Event key, resource or raw position")).to_be_focused()
    page.keyboard.type(str(stack.planted.position))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("patient_consultation_finished")


def test_the_key_of_the_search_leads_to_it_from_a_page_without_one(stack: Site, visit: Visit) -> None:
    visit.page.goto(stack.url + "/")
    visit.page.keyboard.press("/")
    expect(visit.page.get_by_label("Event key, resource or raw position")).to_be_focused()


def test_the_playground_is_not_filled_with_the_login_where_the_session_is_over(stack: Site, visit: Visit) -> None:
    page = visit.page
    page.goto(stack.url + SAMPLE)
    page.context.clear_cookies()
    body = page.get_by_label("Body")
    body.press("End")
    body.press("Space")
    expect(page.locator("#result")).to_have_text(re.compile("The session is over"))
    assert page.get_by_role("heading", name="Log in").count() == 0


def test_the_playground_maps_as_one_types(stack: Site, visit: Visit) -> None:
    page = visit.page
    page.goto(stack.url + SAMPLE)
    body = page.get_by_label("Body")
    body.press("End")
    body.press("Space")
    expect(page.get_by_role("heading", name=re.compile("status_update: 6 resources"))).to_be_visible()
    body.fill("{")
    expect(page.locator("#result")).to_contain_text("cannot be read")


def test_a_row_is_drafted_tried_and_saved(stack: Site, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{stack.url}/playground?vendor=altibbi")
    page.get_by_label("Body").fill(BODY)
    page.get_by_role("button", name="Draft a row for “Every full moon”").click()
    rows = page.get_by_label("frequency.yaml", exact=False).and_(page.get_by_role("textbox"))
    expect(page.locator("#result")).to_contain_text("this row is a draft")
    visit.picture("playground-draft")
    assert visit.violations() == []
    rows.fill(FREQUENCY)
    expect(page.locator("#result")).to_contain_text('"mo"')
    expect(page.locator("#result")).not_to_contain_text("Every full moon”")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save frequency.yaml as a draft").click()
    assert download.value.suggested_filename == "frequency.yaml"
    assert download.value.path().read_text("utf-8") == FREQUENCY


def test_why_a_prescription_has_no_code_is_answered_on_its_page(stack: Site, visit: Visit) -> None:
    reveal(visit, stack, stack.prescription)
    page = visit.page
    page.get_by_role("link", name="MedicationRequest", exact=True).last.click()
    rows = page.get_by_role("group", name="Prescription, elements of")
    expect(rows.get_by_role("row", name="Timing · Code")).to_contain_text("no row in frequency")
    page.get_by_role("button", name="Draft a row for “Every full moon” in the playground").click()
    expect(page.get_by_role("textbox", name="frequency.yaml")).to_have_value(re.compile("Every full moon"))
    page.get_by_role("textbox", name="frequency.yaml").fill(FREQUENCY)
    expect(page.locator("#result")).to_contain_text('"mo"')


def test_figures_are_current_without_loading_the_page_again(stack: Site, visit: Visit) -> None:
    page = visit.page
    page.goto(stack.url + "/")
    page.evaluate("document.getElementById('live').replaceChildren()")
    expect(page.get_by_role("heading", name="What arrives")).to_be_visible()


def test_reading_needs_no_script(stack: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{stack.url}/login?token={TOKEN}")
    became = page.get_by_role("group", name="What became of it")
    became.get_by_role("row", name="status_update").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=2)).to_contain_text("altibbi · status_update")
    page.get_by_role("link", name="Events").click()
    page.get_by_role("rowheader").first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto(stack.url + SAMPLE)
    page.get_by_role("button", name="Map").click()
    expect(page.get_by_role("heading", name=re.compile("status_update: 6 resources"))).to_be_visible()
    context.close()


def test_a_page_at_twice_the_text_size_needs_no_sideways_scrolling(stack: Site, visit: Visit) -> None:
    page = visit.page
    page.set_viewport_size({"width": 640, "height": 450})
    for path in ("/", "/events", "/dead-letters", "/playground?table=frequency", "/terminology", "/terminology/form"):
        page.goto(stack.url + path)
        assert page.evaluate(FITS), path
    reveal(visit, stack, stack.prescription)
    assert page.evaluate(FITS)


def test_a_page_that_nobody_sees_keeps_no_connection(stack: Site, visit: Visit) -> None:
    """A browser opens six for all tabs of a site: with six of them behind, a seventh page would never load."""
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"
    with visit.page.expect_event("requestfailed", lambda request: request.url.endswith("/pipeline/updates")):
        visit.page.evaluate(hide, True)
    with visit.page.expect_request("**/pipeline/updates"):
        visit.page.evaluate(hide, False)


def test_figures_that_are_no_longer_renewed_are_called_old(stack: Site, visit: Visit) -> None:
    page, again = visit.page, "document.dispatchEvent(new Event('visibilitychange'))"
    expect(page.get_by_text("These figures are old")).to_be_hidden()
    page.evaluate("fetch('/session/end', {method: 'POST', body: new URLSearchParams(new FormData(document.forms[0]))})")
    page.evaluate(again)
    expect(page.get_by_text("These figures are old")).to_be_visible()
