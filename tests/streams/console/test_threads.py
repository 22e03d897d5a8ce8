"""Readings for one visitor keep no other waiting, and a visitor who would wait too long is told so at once."""

import asyncio
import http.client
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event
from urllib.parse import urlencode, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from fhirline.mappers.instants import Instant
from fhirline.streams.console.application import application
from fhirline.streams.console.threads import RETRY_SECONDS, Threads
from fhirline.streams.observe import audit
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.console.conftest import Site
from tests.streams.console.test_access import audited, event_page
from tests.streams.console.test_live import made_console
from tests.streams.console.test_time_limit import MANY
from tests.support.console_pages import Visitor
from tests.support.kafka.brokers import settings_for
from tests.support.waiting import LIMIT, wait_until


@contextmanager
def asked(visitor: Visitor, path: str, **fields: str) -> Iterator[http.client.HTTPConnection]:
    """Send a form, and wait for no answer."""
    connection = http.client.HTTPConnection(urlsplit(visitor.url).netloc, timeout=LIMIT)
    with closing(connection):
        headers = {"Cookie": visitor.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, urlencode(fields), headers)
        yield connection


def test_slow_readings_keep_no_other_visitor_waiting(stack: Site) -> None:
    """Three are more than there are threads for slow ones."""
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    (many,) = stack.load.send([raw_record("altibbi", stack.load.tenant, MANY, at, None, 64)])[-1:]
    first, second = Visitor(stack.url).log_in(), Visitor(stack.url).log_in()
    wait_until(lambda: first.get(f"/events?q={many.position}").status == 303, "the event is not in the index")
    slow = first.get(f"/events?q={many.position}").headers["Location"]
    token = first.form_token(slow)
    with ExitStack() as waiting:
        sent = [
            waiting.enter_context(asked(first, f"{slow}/reveal", reason="slow", sources="on", **{"form-token": token}))
            for _ in range(3)
        ]
        audited(stack.process, "raw event revealed", 3, reason="slow")
        page = event_page(second, stack)
        quick = second.post(f"{page}/reveal", reason="quick", **{"form-token": second.form_token(page)})
        assert quick.status == 200
        answered, _, _ = select.select([connection.sock for connection in sent], [], [], 0)
        assert len(answered) < len(sent), "the second visitor was answered after all that the first one asked for"


def test_calls_that_would_wait_too_long_are_refused() -> None:
    async def tried() -> None:
        threads, go_on = Threads("test", number=2, waiting=1), Event()
        try:
            calls = [asyncio.create_task(threads.run(go_on.wait, LIMIT)) for _ in range(3)]
            await asyncio.sleep(0)  # they begin
            with pytest.raises(web.HTTPServiceUnavailable):
                await threads.run(time.monotonic)
            part = asyncio.create_task(threads.go_on(time.monotonic))
            await asyncio.sleep(0)
            go_on.set()
            assert await asyncio.gather(*calls) == [True] * 3
            assert await part
            assert await threads.run(time.monotonic)
        finally:
            go_on.set()
            threads.close()

    asyncio.run(tried())


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/patients", {"patient": "Patient/x"}),
        ("/terminology/use", {"vendor": "altibbi"}),
        ("/dead-letters/export", {"payloads": "on"}),
    ],
)
def test_who_is_refused_is_told_when_to_try_again_and_is_in_no_audit_line(path: str, fields: dict[str, str]) -> None:
    async def tried() -> None:
        console, go_on = made_console(settings_for("127.0.0.1:9"), user_header="x-user"), Event()
        server = TestServer(application(console))
        try:
            async with TestClient(server, headers={"x-user": "dr-o"}) as client:
                console.access.hosts = frozenset({f"127.0.0.1:{server.port}"})
                calls = [asyncio.create_task(console.searching.run(go_on.wait, LIMIT)) for _ in range(10)]
                await asyncio.sleep(0)  # they begin
                page = await (await client.get("/patients")).text()
                token = page.partition('name="form-token" value="')[2].partition('"')[0]
                lines = audit.lines()
                refused = await client.post(path, data={"form-token": token, "reason": "a test", **fields})
                assert (refused.status, refused.headers["Retry-After"]) == (503, str(RETRY_SECONDS))
                assert "Try again" in await refused.text()
                assert audit.lines() == lines
                assert (await client.get("/audit")).status == 200
                go_on.set()
                await asyncio.gather(*calls)
                console.searching.require_free()
        finally:
            go_on.set()
            console.close()
            console.index.close()

    asyncio.run(tried())
