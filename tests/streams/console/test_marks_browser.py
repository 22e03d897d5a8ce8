"""A value of the payload and what was made of it mark each other: in rows and as JSON, by mouse and keyboard."""

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.streams.console.conftest import Site
from tests.streams.console.test_browser import reveal, visit
from tests.support.browser import Visit
from tests.support.console_pages import TOKEN

__all__ = ["visit"]

pytestmark = pytest.mark.long

HINT = "Point at a value"
MARKED = "main .marked"


def payload_of(visit: Visit) -> Locator:
    return visit.page.get_by_role("group", name="Payload")


def rows_of(visit: Visit) -> Locator:
    return visit.page.get_by_role("group", name="Prescription, elements of")


def test_a_row_marks_the_place_of_the_payload_that_it_came_from(stack: Site, visit: Visit) -> None:
    reveal(visit, stack, stack.prescription)
    expect(visit.page.get_by_text(HINT)).to_be_visible()
    value = rows_of(visit).get_by_role("row", name="Timing · Code").locator("[data-source]").first
    value.hover()
    sources = (value.get_attribute("data-source") or "").split(", ")
    marked = payload_of(visit).locator(".marked")
    expect(marked.filter(has_text="Every full moon")).to_be_visible()
    assert {line.get_attribute("data-pointer") for line in marked.all()} <= {*sources}
    box, line = payload_of(visit).bounding_box(), marked.first.bounding_box()
    assert box
    assert line
    assert box["y"] <= line["y"] <= box["y"] + box["height"]
    visit.picture("marks")
    visit.page.get_by_role("heading", level=1).hover()
    expect(visit.page.locator(MARKED)).to_have_count(0)
    assert visit.violations() == []


def test_a_value_of_the_payload_marks_the_rows_and_the_json_that_came_from_it(stack: Site, visit: Visit) -> None:
    reveal(visit, stack, stack.prescription)
    payload_of(visit).get_by_text("Every full moon").hover()
    expect(rows_of(visit).locator("[data-source].marked").filter(has_text="Every full moon").first).to_be_visible()
    json = visit.page.locator('.json[aria-label^="MedicationRequest/"] .line.marked')
    expect(json.filter(has_text="Every full moon").first).to_be_visible()


def test_the_arrow_keys_go_from_value_to_value(stack: Site, visit: Visit) -> None:
    reveal(visit, stack, stack.prescription)
    page, keyboard = visit.page, visit.page.keyboard
    for group, of_a_value in ((payload_of(visit), "line marked"), (rows_of(visit), "marked")):
        group.focus()
        expect(page.locator(MARKED)).to_have_count(0)
        keyboard.press("ArrowDown")
        first = page.locator("main :focus")
        expect(first).to_have_class(of_a_value)
        text = first.inner_text()
        keyboard.press("ArrowDown")
        expect(page.locator(":focus")).not_to_have_text(text)
        keyboard.press("ArrowUp")
        expect(page.locator(":focus")).to_have_text(text)
        assert page.locator(MARKED).count() > 1
    payload = payload_of(visit).locator(".marked")
    expect(payload.first).to_be_visible()
    assert visit.violations() == []


def test_without_sources_nothing_is_marked(stack: Site, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{stack.url}/events?q={stack.prescription.position}")
    page.get_by_label("Reason").fill("a test")
    page.get_by_role("button", name="Reveal").click()
    payload_of(visit).get_by_text("Every full moon").hover()
    expect(page.locator(MARKED)).to_have_count(0)
    expect(page.get_by_text(HINT)).to_have_count(0)


def test_rows_need_no_script(stack: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{stack.url}/login?token={TOKEN}")
    page.goto(f"{stack.url}/events?q={stack.prescription.position}")
    page.get_by_label("Reason").fill("a test")
    page.get_by_label("with the source of each element").check()
    page.get_by_role("button", name="Reveal").click()
    row = page.get_by_role("group", name="Prescription, elements of").get_by_role("row", name="Timing · Code")
    expect(row).to_contain_text("Every full moon")
    expect(page.get_by_text(HINT)).to_be_hidden()
    context.close()
