"""Odd visitors and odd events: shared and ended sessions, streams that nobody reads, a broker that hangs, odd names."""

import html
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote, urlsplit

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.console.conftest import Site
from tests.streams.console.test_access import event_page
from tests.support.console_pages import TOKEN, Visitor, console
from tests.support.kafka.brokers import RunningBroker, create_topics
from tests.support.load import load_on
from tests.support.waiting import LIMIT, wait_until

OVERRIDE = "\u202e"
NAMES = [
    "wearable/steps",
    "..%2F..%2Fetc",
    "a/b?c=d#e",
    "x" * 300,
    f"{OVERRIDE}txt.exe",
    "</script><script>alert(1)</script>",
]
"""Names of event types as no vendor should send them."""


@pytest.fixture
def visitor(stack: Site) -> Visitor:
    return Visitor(stack.url).log_in()


@pytest.fixture(scope="module")
def odd(stack: Site) -> list[ConsumerRecord]:
    """Events with odd names of their type, and texts that end a script or turn the direction of what is shown."""
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    note = {"note": f"</script>{OVERRIDE}evil\x00\x1b[31m\u2028"}
    bodies = [{"type": name, "occurred_on": 1_718_205_600, "payload": note} for name in NAMES]
    load = stack.load
    raws = load.send(raw_record("mediquo", load.tenant, orjson.dumps(body), at, None, 64) for body in bodies)
    visitor = Visitor(stack.url).log_in()
    wait_until(
        lambda: all(visitor.get(f"/events?q={raw.position}").status == 303 for raw in raws),
        lambda: stack.process.report("does not find the events"),
    )
    return raws


def test_odd_names_of_event_types_lead_nowhere_else(stack: Site, visitor: Visitor, odd: list[ConsumerRecord]) -> None:
    for raw in odd:
        page = visitor.get(f"/events?q={raw.position}").headers["Location"]
        assert re.fullmatch(rf"/events/mediquo/{stack.load.tenant}/[0-9a-f]{{64}}", page)
        assert visitor.get(page).status == 200
    for name in NAMES:
        for path in ("/events", "/dead-letters/events"):
            answer = visitor.get(f"{path}?vendor=mediquo&type={quote(name, safe='')}")
            assert answer.status == 200
            assert "None." in answer.text
            assert answer.text.count("<script") == 1


def test_characters_that_turn_the_direction_of_text_are_shown_as_escapes(
    visitor: Visitor, odd: list[ConsumerRecord]
) -> None:
    page = visitor.get(f"/events?q={odd[0].position}").headers["Location"]
    answer = visitor.post(f"{page}/reveal", reason="a test", **{"form-token": visitor.form_token(page)})
    assert answer.status == 200
    assert r"\u202eevil\u0000\u001b[31m\u2028" in answer.text
    assert OVERRIDE not in answer.text
    assert "&lt;/script&gt;" in answer.text


@pytest.mark.parametrize(
    "search", ["%00", "%0d%0aX-Evil:%201", "%1b[31m", OVERRIDE, "Patient/" + "a" * 5_000, "%ff%fe", "%2F..%2F"]
)
def test_an_odd_search_finds_nothing(visitor: Visitor, search: str) -> None:
    answer = visitor.get(f"/events?q={quote(search, safe='%')}")
    assert answer.status == 200
    assert "X-Evil" not in answer.headers
    assert "neither an event key" in answer.text or "None." in answer.text


def test_two_browsers_with_one_session_have_one_form_token_and_end_together(stack: Site, visitor: Visitor) -> None:
    other = Visitor(stack.url, cookie=visitor.cookie)
    token = visitor.form_token("/patients")
    assert other.form_token("/patients") == token
    other.post("/session/end", **{"form-token": token})
    assert visitor.get("/patients").status == 303


def test_a_form_of_an_ended_session_is_said_to_be_not_done(stack: Site, visitor: Visitor) -> None:
    page = event_page(visitor, stack)
    first = visitor.get(page).text
    fields = {name: field(first, name) for name in ("form-token", "form-page")}
    kept = visitor.cookie
    visitor.post("/session/end", **fields)
    visitor.cookie = kept
    answer = visitor.post(f"{page}/reveal", reason="a test", **fields)
    assert answer.status == 303
    login = visitor.get(answer.headers["Location"]).text
    assert "what you sent was not done" in login
    assert "what you sent was not done" not in visitor.get("/login").text
    assert field(login, "next") == page
    again = visitor.post("/login", token=TOKEN, next=field(login, "next"))
    assert again.headers["Location"] == page


@pytest.mark.parametrize("sent", ["https://evil.example/", "//evil.example", "/\\evil.example", "", "/x" * 8_000])
def test_a_form_of_an_ended_session_leads_to_no_other_site(stack: Site, sent: str) -> None:
    answer = Visitor(stack.url).post("/patients", **{"form-page": sent})
    assert (answer.status, answer.headers["Location"]) == (303, "/login?not-done=&next=/")


def test_the_answer_to_a_form_names_the_page_of_the_form(stack: Site, visitor: Visitor) -> None:
    """It may have no address of its own that a browser could ask for again."""
    first = visitor.get("/events?vendor=mediquo").text
    fields = {name: field(first, name) for name in ("form-token", "form-page")}
    keys = {"vendor": "mediquo", "tenant": stack.load.tenant, "patient": "nobody", "reason": "a test"}
    found = visitor.post("/events/search", **keys, **fields)
    assert found.status == 200
    assert field(found.text, "form-page") == field(first, "form-page") == "/events"
    mapped = visitor.post("/playground", vendor="altibbi", tenant="default", body="{}", **fields)
    assert field(mapped.text, "form-page") == "/playground"


def field(page: str, name: str) -> str:
    """Return the value of a page's first hidden field with a name."""
    return html.unescape(page.partition(f'name="{name}" value="')[2].partition('"')[0])


def test_a_hundred_streams_that_nobody_reads_hold_up_no_page_and_no_end(own_broker: RunningBroker) -> None:
    load = load_on(own_broker)
    load.send(load.events(20, seed=5))
    with console(load.settings) as (url, process), ExitStack() as stack:
        visitor = Visitor(url).log_in()
        own = urlsplit(url)
        for _ in range(100):
            connection = socket.socket()
            stack.callback(connection.close)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.settimeout(LIMIT)
            connection.connect((own.hostname, own.port))
            head = f"GET /pipeline/updates HTTP/1.1\r\nHost: {own.netloc}\r\nCookie: {visitor.cookie}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(12) == b"HTTP/1.1 200"
        for path in ("/", "/events", "/dead-letters"):
            assert visitor.get(path).status == 200
        assert process.stop() == 0, process.report("does not end while streams are open")


@pytest.fixture
def hanging() -> Iterator[tuple[EmbeddedBroker, RunningBroker]]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield broker, RunningBroker("embedded", broker.bootstrap)


@pytest.mark.long
def test_a_broker_that_hangs_is_told_and_the_figures_go_on_when_it_is_back(
    hanging: tuple[EmbeddedBroker, RunningBroker],
) -> None:
    broker, running = hanging
    load = load_on(running)
    load.send(load.events(20, seed=5))
    with console(load.settings) as (url, process):
        visitor = Visitor(url).log_in()
        wait_until(lambda: "What arrives" in visitor.get("/").text, lambda: process.report("shows no figures"))
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: "not current" in visitor.get("/").text, lambda: process.report("does not tell"))
            assert visitor.get("/events").status == 200, "the index answers without the broker"
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        wait_until(lambda: "not current" not in visitor.get("/").text, lambda: process.report("does not go on"))
        (raw,) = load.send([*load.events(1, seed=6)])
        wait_until(
            lambda: visitor.get(f"/events?q={raw.position}").status == 303,
            lambda: process.report("indexes no event any more"),
        )
