"""Requests that no page of the console makes: each is answered in order, and none is a defect of the console."""

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from fhirline.streams.console.access import HEADERS
from tests.streams.console.conftest import Site
from tests.support.console_pages import Visitor
from tests.support.waiting import LIMIT, wait_until

MARKER = "Melisande-4417"
FORM = "application/x-www-form-urlencoded"


def status_of(visitor: Visitor, method: str, path: str, body: bytes, content_type: str) -> int:
    """Return the status of an answer, and read nothing of it: it may have no end."""
    connection = http.client.HTTPConnection(urlsplit(visitor.url).netloc, timeout=LIMIT)
    try:
        connection.request(method, path, body, {"Cookie": visitor.cookie, "Content-Type": content_type})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/login", "/playground"])
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"form-token=\xff\xfe", FORM, 400),
        (b"form-token=x", f"{FORM}; charset=nonsense", 400),
        (b"form-token=x", f"{FORM}; charset=zlib", 400),
        (b"--a", "multipart/form-data", 415),
        (
            b'--a\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\nx\r\n--a--',
            "multipart/form-data",
            415,
        ),
        (b"{}", "application/json", 415),
    ],
)
def test_a_form_that_cannot_be_read_is_refused(
    stack: Site, path: str, body: bytes, content_type: str, status: int
) -> None:
    visitor = Visitor(stack.url).log_in()
    assert status_of(visitor, "POST", path, body, content_type) == status


@pytest.mark.parametrize(
    "path", ["/pipeline/updates", "/changes/progress/updates", "/dead-letters/redrive/progress/updates"]
)
def test_updates_without_end_are_no_answer_to_head(stack: Site, path: str) -> None:
    assert status_of(Visitor(stack.url).log_in(), "HEAD", path, b"", FORM) == 405


@pytest.mark.parametrize("path", ["/no-such-page", "/static/", "/static/../audit", "/static/no-such-file"])
def test_an_error_is_told_in_a_sentence(stack: Site, path: str) -> None:
    answer = Visitor(stack.url).log_in().get(path)
    assert answer.status in (403, 404)
    assert f"<p>{answer.status}: " not in answer.text


def test_nobody_is_led_to_another_site(stack: Site) -> None:
    for path in ("//evil.example/x", "////evil.example/x", "/events?q=a"):
        answer = Visitor(stack.url).get(path)
        assert answer.status == 303
        assert answer.headers["Location"].startswith("/login?next=")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"GET /events?q={MARKER * 1000} HTTP/1.1", 414),
        (f"GET /{MARKER * 1000} HTTP/1.1", 414),
        (f"GET / HTTP/1.1\r\nCookie: {MARKER * 1000}", 431),
        ("GET / HTTP/1.1\r\n" + "\r\n".join(f"X-{number}: {MARKER}" for number in range(200)), 431),
        (f"GET / HTTP/1.1\r\nExpect: {MARKER}", 417),
        (f"{MARKER} / HTTP/1.1", 400),
        (f"GET / {MARKER}", 400),
        (f"GET / HTTP/1.1\r\n{MARKER}", 400),
        (f"POST /login HTTP/1.1\r\nContent-Length: {MARKER}", 400),
        (f"\x16\x03\x01{MARKER}", 400),
    ],
    ids=lambda item: str(item)[:30].encode("unicode_escape").decode(),
)
def test_what_is_no_request_is_refused_with_the_pages_headers_and_not_quoted(
    stack: Site, head: str, status: int
) -> None:
    own = urlsplit(stack.url)
    with socket.create_connection((own.hostname, own.port), LIMIT) as connection:
        connection.sendall(f"{head}\r\nHost: {own.netloc}\r\n\r\n".encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        text = answer.read().decode()
    assert answer.status == status
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert text.startswith(f"{status}: ")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert MARKER not in f"{answer.headers}{text}"
    told = f'"status":{status}'
    wait_until(lambda: any("invalid http" in line and told in line for line in [*stack.process.printed]), "no log line")
    assert MARKER not in stack.process.output
