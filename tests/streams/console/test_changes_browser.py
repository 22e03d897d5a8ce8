"""Change review in a real Chromium: accessible, followed without loading the page again, and without scripts."""

import pytest
from playwright.sync_api import Browser, expect

from tests.streams.console.conftest import browser
from tests.streams.console.review import Review, site
from tests.support.browser import Visit
from tests.support.console_pages import TOKEN
from tests.support.waiting import LIMIT

pytestmark = pytest.mark.long

__all__ = ["browser", "site"]


@pytest.fixture(scope="module")
def run(site: Review) -> str:
    """The path of a run that has found differences."""
    return site.compared(site.visitor())


@pytest.mark.parametrize("dark", [False, True])
def test_no_view_violates_a_rule_of_accessibility(site: Review, run: str, browser: Browser, dark: bool) -> None:
    visit = Visit(browser, dark)
    visit.page.goto(f"{site.url}/login?token={TOKEN}")
    found = {}
    for path in ("/changes", run, f"{run}/publish", f"{run}/shadow", f"{run}/discard", "/changes/progress"):
        visit.page.goto(site.url + path)
        found[path] = visit.violations()
        if path in ("/changes", run):
            visit.picture("change" if path == run else "changes")
        visit.page.evaluate("document.documentElement.style.fontSize = '200%'")
        wide = visit.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide, path
    assert {path: rules for path, rules in found.items() if rules} == {}
    assert visit.complaints == []
    visit.close()


def test_a_comparison_is_followed_to_its_run(site: Review, run: str, browser: Browser) -> None:
    site.ended(site.visitor())
    visit = Visit(browser)
    page = visit.page
    page.goto(f"{site.url}/login?token={TOKEN}")
    page.goto(f"{site.url}/changes")
    page.get_by_label("Vendor").select_option("altibbi")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Replay")
    page.evaluate("window.kept = true")
    expect(page.get_by_role("status")).to_contain_text("Compared.")
    page.wait_for_function("window.kept")  # the page was not loaded again
    page.get_by_role("link", name="See the run").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("What would change")
    assert visit.complaints == []
    visit.close()


def test_without_scripts_a_comparison_is_begun_followed_and_read(site: Review, run: str, browser: Browser) -> None:
    site.ended(site.visitor())
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(LIMIT * 1000)
    page = context.new_page()
    page.goto(f"{site.url}/login?token={TOKEN}")
    page.get_by_role("link", name="Changes").click()
    page.get_by_label("Vendor").select_option("altibbi")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("status")).to_contain_text("Compared.")  # the page loads itself again
    page.get_by_role("link", name="See the run").click()
    expect(page.get_by_role("group", name="Changed codes of MedicationRequest")).to_contain_text("Q6H")
    page.get_by_role("link", name="Publish …").click()
    expect(page.get_by_role("button", name="Publish")).to_be_visible()
    context.close()
