"""Token endpoints that answer oddly: each answer is a token, or one stated refusal; none ends a process by surprise."""

import time
from collections.abc import Iterator

import pytest

from fhirline.streams.http import tokens
from fhirline.streams.http.tokens import LONGEST_LIFETIME, TokenRefused, TokenSource, secret_in_header
from tests.support.raw_server import RawServer, answered


def lifetime(told: str) -> float:
    """Return the lifetime of a token whose ``expires_in`` is told so."""
    answer = answered(b'{"access_token":"x","token_type":"bearer","expires_in":%s}' % told.encode())
    with RawServer(lambda _: answer) as server:
        _, expires_at = TokenSource(server.base, secret_in_header("ours", lambda: "secret")).token()
    return expires_at - time.time()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("60", 60),
        ('"60"', 60),
        ("60.5", 60.5),
        ("0", tokens.DEFAULT_LIFETIME),
        ("-5", tokens.DEFAULT_LIFETIME),
        ("null", tokens.DEFAULT_LIFETIME),
        ("true", tokens.DEFAULT_LIFETIME),
        ("NaN", tokens.DEFAULT_LIFETIME),
        ('"²"', tokens.DEFAULT_LIFETIME),
        ('"soon"', tokens.DEFAULT_LIFETIME),
        (f'"{"9" * 5_000}"', tokens.DEFAULT_LIFETIME),
        ("9" * 400, LONGEST_LIFETIME),
        ("1e400", LONGEST_LIFETIME),
        ("Infinity", LONGEST_LIFETIME),
    ],
)
def test_a_lifetime_is_read_or_the_default(told: str, expected: float) -> None:
    assert expected - 60 < lifetime(told) <= expected


@pytest.mark.parametrize("token", ['"a\\nb"', '"a b"', '"\\u00e9"', '""', "5", "null"])
def test_a_token_that_no_header_can_hold_is_refused(token: str) -> None:
    with RawServer(lambda _: answered(b'{"access_token":%s}' % token.encode())) as server:
        refused = refusal(server.base)
    assert not refused.temporary
    assert "contains no access_token" in str(refused)


def dripping() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    for _ in range(10_000):
        yield b" "
        time.sleep(0.02)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        answered(b"[" * 200_000),
        answered(b"[" * 200_000, status="503 X"),
        answered(b"<html>secret-page</html>"),
        answered(b""),
        answered(b" " * 2_000_000),
    ],
)
def test_an_answer_that_is_none_is_temporary(answer: bytes) -> None:
    with RawServer(lambda _: answer) as server:
        refused = refusal(server.base)
    assert refused.temporary
    assert "secret" not in str(refused)


def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TIMEOUT", 0.5)
    with RawServer(lambda _: dripping()) as server:
        assert refusal(server.base).temporary


def refusal(url: str) -> TokenRefused:
    with pytest.raises(TokenRefused) as refused:
        TokenSource(url, secret_in_header("ours", lambda: "secret")).token()
    return refused.value
