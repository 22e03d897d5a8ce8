"""The patient's timeline and the audit lines in a real Chromium: accessible, without scripts, at twice the size."""

import orjson
import pytest
from playwright.sync_api import Browser, Page, expect

from fhirline.mappers.instants import Instant
from fhirline.mappers.registry import patient_key
from fhirline.streams.demo.webhooks import samples
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.console.conftest import NAME, Site
from tests.streams.console.test_patients import known
from tests.support.browser import PICTURES, Visit
from tests.support.console_pages import TOKEN, Visitor
from tests.support.waiting import LIMIT, wait_until

pytestmark = pytest.mark.long

__all__ = ["known"]


def patient_of_the_demo(site: Site) -> str:
    """Send the events of a patient of the demo, one with a whole consultation, and return the vendor's own key."""
    at = Instant.parse("2024-07-31T12:00:00Z")  # after all of them
    assert at
    key = "503"
    theirs = [
        each.body for each in samples() if each.vendor == "altibbi" and patient_key("altibbi", each.body, "") == key
    ]
    assert len(theirs) > 3, "a poor timeline"
    tenant = site.load.tenant
    raws = site.load.send(raw_record("altibbi", tenant, orjson.dumps(body), at, None, 64) for body in theirs)
    visitor = Visitor(site.url).log_in()
    wait_until(
        lambda: all(visitor.get(f"/events?q={raw.position}").status == 303 for raw in raws),
        lambda: site.process.report("does not find the events"),
    )
    return f"altibbi|{tenant}|{key}"


def ask(page: Page, site: Site, patient: str, shown: str = NAME) -> None:
    page.goto(f"{site.url}/login?token={TOKEN}")
    page.get_by_role("link", name="Patients").click()
    page.get_by_label("Patient", exact=True).fill(patient)
    page.get_by_label("Reason").fill("a test")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("group", name="Resources")).to_contain_text(shown)


@pytest.mark.parametrize("dark", [False, True])
def test_no_view_violates_a_rule_of_accessibility(stack: Site, known: str, browser: Browser, dark: bool) -> None:
    visit = Visit(browser, dark)
    page = visit.page
    page.goto(f"{stack.url}/login?token={TOKEN}")
    page.goto(f"{stack.url}/patients")
    found = {"form": visit.violations()}
    ask(page, stack, known)
    assert (page.url, page.title()) == (f"{stack.url}/patients", "Patients · fhirline")
    assert page.locator("main script, main img").count() == 0
    found["timeline"] = visit.violations()
    if PICTURES:
        ask(page, stack, patient_of_the_demo(stack), "Encounter")
        visit.picture("patients")
    assert not wide(page)
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_role("group", name="Audit lines")).to_contain_text("a test")
    found["audit"] = visit.violations()
    visit.picture("audit")
    assert not wide(page)
    assert {path: rules for path, rules in found.items() if rules} == {}
    assert visit.complaints == []
    visit.close()


def test_a_timeline_needs_no_script(stack: Site, known: str, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(LIMIT * 1000)
    page = context.new_page()
    ask(page, stack, known)
    page.get_by_role("link", name="patient_consultation_finished").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("patient_consultation_finished")
    context.close()


def wide(page: Page) -> bool:
    """Tell whether the page needs sideways scrolling at half the width, which is twice the text size."""
    page.set_viewport_size({"width": 640, "height": 450})
    found: bool = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    return found
