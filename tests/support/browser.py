"""A real Chromium, which is a package of the system, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from typing import NoReturn

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.support.paths import ROOT
from tests.support.waiting import LIMIT

expect.set_options(timeout=LIMIT * 1000)

PICTURES = os.environ.get("CONSOLE_SCREENSHOTS")
NAMES = ("chromium", "chromium-browser", "google-chrome")


def unavailable(reason: str) -> NoReturn:
    """Skip where there is no Chromium; fail in CI, where that would go unseen."""
    if os.environ.get("CI"):
        pytest.fail(f"Chromium is needed in CI: {reason}", pytrace=False)
    pytest.skip(f"no Chromium here: {reason}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without any page."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        unavailable("install Debian's package chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


class Visit:
    """A page in a browser context of its own. ``complaints``: what the browser reported, such as a refused script."""

    def __init__(self, browser: Browser, dark: bool = False) -> None:
        context = browser.new_context(
            viewport={"width": 1280, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        context.set_default_timeout(LIMIT * 1000)
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self._suffix = "-dark" if dark else ""
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def violations(self) -> list[str]:
        """Return what axe-core finds against the page: the rule and the element."""
        found = Axe().run(self.page).response["violations"]
        return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]

    def picture(self, name: str) -> None:
        """Write a picture of what the window shows, where CONSOLE_SCREENSHOTS names a folder for it."""
        if PICTURES:
            self.page.screenshot(path=ROOT / PICTURES / f"console-{name}{self._suffix}.png")

    def close(self) -> None:
        self.page.context.close()
