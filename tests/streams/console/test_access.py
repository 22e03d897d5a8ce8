"""Access to the console: tokens, sessions, hosts, form tokens, reasons, and what is audited."""

import json

import pytest
from aiohttp.test_utils import make_mocked_request

from fhirline.streams.console.access import COOKIE, HEADERS, IDLE, Access
from fhirline.streams.kafka.headers import EVENT_KEY, header
from tests.streams.console.conftest import NAME, SCRIPT, Site
from tests.support.console_pages import TOKEN, Visitor, console
from tests.support.processes import Command
from tests.support.waiting import wait_until

PAGES = (
    "/",
    "/events",
    "/patients",
    "/dead-letters",
    "/dead-letters/events",
    "/dead-letters/redrive/progress",
    "/dead-letters/waiting",
    "/changes",
    "/changes/progress",
    "/playground",
    "/terminology",
    "/audit",
)


def event_page(visitor: Visitor, site: Site) -> str:
    """The page of the planted event, found by its raw position."""
    found = visitor.get(f"/events?q={site.planted.position}")
    assert found.status == 303
    return found.headers["Location"]


def audited(process: Command, event: str, count: int, **fields: str) -> list[dict[str, str]]:
    """Return the audit lines of an event, with these fields, once there are at least ``count``.

    A line is written before its answer, but this process reads it in a thread of its own. Lines arrive in their
    order: one that should not be there stands before those that are waited for.
    """

    def lines() -> list[dict[str, str]]:
        printed = [line.partition(": ")[2] for line in [*process.printed] if f'"event":"{event}"' in line]
        return [line for line in map(json.loads, printed) if fields.items() <= line.items()]

    wait_until(lambda: len(lines()) >= count, lambda: f"{len(lines())} of {count} lines {event!r}")
    return lines()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_needs_a_session(stack: Site, path: str) -> None:
    answer = Visitor(stack.url).get(path)
    login = "/login" if path == "/" else f"/login?next={path}"
    assert (answer.status, answer.headers["Location"]) == (303, login)


def test_only_what_would_have_done_something_is_said_not_to_be_done(stack: Site) -> None:
    visitor = Visitor(stack.url)
    assert visitor.head("/events").headers["Location"] == "/login?next=/events"
    assert "was not done" in visitor.get(visitor.post("/changes").headers["Location"]).text


def test_the_login_leads_to_the_page_that_was_asked_for(stack: Site) -> None:
    visitor = Visitor(stack.url)
    login = visitor.get("/events?q=Patient%2Fx&vendor=a").headers["Location"]
    assert 'name="next" value="/events?q=Patient%2Fx&amp;vendor=a"' in visitor.get(login).text
    answer = visitor.post("/login", token=TOKEN, next="/events?q=Patient%2Fx")
    assert answer.headers["Location"] == "/events?q=Patient/x"
    for elsewhere in ("//evil.example/", "/\\evil.example", "https://evil.example", "/\t/evil.example", "\r\nX: y"):
        location = visitor.post("/login", token=TOKEN, next=elsewhere).headers["Location"]
        assert location == "/", elsewhere


def test_who_logs_out_needs_the_token_again(stack: Site) -> None:
    visitor = Visitor(stack.url).log_in()
    old, token = visitor.cookie, visitor.form_token("/")
    assert visitor.post("/session/end").status == 403  # no form token
    assert visitor.post("/session/end", **{"form-token": token}).headers["Location"] == "/login"
    visitor.cookie = old
    assert visitor.get("/").status == 303


def test_a_session_that_nobody_uses_ends() -> None:
    now = 0.0
    access = Access("token", None, lambda: now)
    cookie = access.log_in("token", "/").cookies[COOKIE].value

    def known(path: str) -> bool:
        request = make_mocked_request("GET", path, {"Cookie": f"{COOKIE}={cookie}"})
        return access._session(request) is not None

    now += IDLE
    assert known("/events")
    now += IDLE
    assert known("/pipeline/updates")  # of a page that is left open
    now += 1
    assert not known("/events")
    now = 0.0
    assert not known("/events")


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_forbids_scripts_frames_and_caches(stack: Site, path: str) -> None:
    answer = Visitor(stack.url).log_in().get(path)
    assert answer.status == 200
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "style=" not in answer.text
    assert answer.text.count("<script") == 1


def test_a_wrong_token_is_refused_and_too_many_are_held_off(stack: Site) -> None:
    with console(stack.load.settings) as (url, _):  # its own: nobody gets in for some seconds
        visitor = Visitor(url)
        statuses = [visitor.post("/login", token=f"wrong {number}").status for number in range(100)]
        assert statuses[0] == 403
        assert 429 in statuses
        assert visitor.cookie == ""


def test_a_foreign_host_name_reaches_nothing(stack: Site) -> None:
    """A page of another site whose name resolves to 127.0.0.1 must not be answered (DNS rebinding)."""
    visitor = Visitor(stack.url).log_in()
    visitor.headers["Host"] = "rebound.example.org"
    assert visitor.get("/").status == 421
    assert visitor.post("/login", token=TOKEN).status == 421


def test_the_session_cookie_is_for_the_browser_alone(stack: Site) -> None:
    answer = Visitor(stack.url).post("/login", token=TOKEN)
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in answer.headers["Set-Cookie"].split(";")}


def test_nothing_of_a_patient_is_shown_before_it_is_asked_for(stack: Site) -> None:
    visitor = Visitor(stack.url).log_in()
    for path in (*PAGES, event_page(visitor, stack), f"/events?q={NAME}"):
        shown = visitor.get(path).text.replace(f'value="{NAME}"', "")  # the search repeats what was typed
        assert NAME not in shown, path


def test_a_payload_is_revealed_with_a_reason_which_is_audited_first(stack: Site) -> None:
    visitor = Visitor(stack.url).log_in()
    page = event_page(visitor, stack)
    token = visitor.form_token(page)
    assert visitor.post(f"{page}/reveal", reason="looking").status == 403  # no form token
    assert visitor.post(f"{page}/reveal", reason="looking", **{"form-token": "x"}).status == 403
    assert visitor.post(f"{page}/reveal", reason=" ", **{"form-token": token}).status == 400
    answer = visitor.post(f"{page}/reveal", reason="ticket 4711", sources="on", **{"form-token": token})
    assert answer.status == 200
    assert NAME in answer.text
    assert SCRIPT not in answer.text
    assert "data-source=" in answer.text
    (line, *others) = audited(stack.process, "raw event revealed", 1)
    assert {other["reason"] for other in others} <= {"after what was refused"}
    assert (line["reason"], line["by"], line["raw"]) == ("ticket 4711", "console", str(stack.planted.position))
    assert line["event_key"] == header(stack.planted.headers, EVENT_KEY)
    assert NAME not in stack.process.output


def test_a_read_only_console_redrives_nothing(stack: Site) -> None:
    visitor = Visitor(stack.url).log_in()
    token = visitor.form_token("/playground")
    assert visitor.get("/dead-letters/redrive").status == 403
    for path in ("/dead-letters/redrive", "/dead-letters/redrive/progress/stop"):
        assert visitor.post(path, key="abc", **{"form-token": token}).status == 403
    reveal = {"reason": "after what was refused", "form-token": token}
    page = event_page(visitor, stack)
    wait_until(lambda: visitor.post(f"{page}/reveal", **reveal).status == 200, "too many reveals")
    audited(stack.process, "raw event revealed", 1, reason=reveal["reason"])
    assert audited(stack.process, "dead letters redriven", 0) == []
