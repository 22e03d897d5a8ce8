"""Requests that no page of the console makes: each is answered in order, and none is a defect of the console."""

import http.client
from urllib.parse import urlsplit

import pytest

from tests.streams.console.conftest import Site
from tests.support.console_pages import Visitor
from tests.support.waiting import LIMIT

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
