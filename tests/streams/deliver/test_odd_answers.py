"""Servers that answer as no FHIR server should: nothing counts as delivered without the server's word for it."""

import asyncio
import gzip
import json
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from fhirline.config.settings import load_settings
from fhirline.streams.deliver.answers import Kind, verdicts
from fhirline.streams.deliver.auth import authorization
from fhirline.streams.deliver.capabilities import lacks
from fhirline.streams.deliver.entries import Entry
from fhirline.streams.deliver.fhir_client import LONGEST_PAUSE, Answer, FhirServer, ServerUnavailable
from tests.streams.deliver.test_authorization import some_records
from tests.support.delivery import delivering, lag, letters, wait_until_delivered, waiting, write
from tests.support.kafka.brokers import RunningBroker
from tests.support.raw_server import RawServer, Request, answered, keys_of, statement, stored
from tests.support.waiting import wait_until

SOME = 30
"""One in so many golden cases."""

NAMED = "Abdurrahman"
"""A patient's name in answers: it is nowhere else."""

ENTRY = Entry("Patient/1", {"resourceType": "Patient", "id": "1"}, "digest", "https://x.example/Patient/1")

DEEP = "[" * 300 + "]" * 300
OUTCOME = '{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","diagnostics":"' + NAMED


def result(**response: object) -> bytes:
    return answered({"resourceType": "Bundle", "type": "transaction-response", "entry": [{"response": response}]})


def posted(answer: bytes, **more: object) -> Answer:
    """Send a transaction to a server that answers so."""

    async def send(base: str) -> Answer:
        settings = load_settings(fhir_server=base, **more)
        async with FhirServer(settings, authorization(settings)) as server:
            return await server.transaction(b"{}")

    with RawServer(lambda _: answer) as server:
        return asyncio.run(send(server.base))


def kind(answer: bytes) -> Kind:
    """Return what deliver makes of one entry whose transaction is answered so."""
    got = posted(answer)
    [found] = verdicts(got.status, got.body, got.retry_after, [ENTRY])
    return found.kind


@pytest.mark.parametrize("status", ["²²²", "٢٠١", "20", "2010", "201", 201, "HTTP/1.1 201", "999", "", None])
def test_a_status_counts_only_where_it_is_one(status: object) -> None:
    """As FHIR writes it: three digits, then perhaps words."""
    assert kind(result(status=status)) is (Kind.ACCEPTED if status == "201" else Kind.FAILED)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("Patient/1/_history/1", Kind.ACCEPTED),
        ("Patient/1", Kind.ACCEPTED),
        ("https://elsewhere.example/a/b/Patient/1/_history/x:1", Kind.ACCEPTED),
        ("urn:uuid:6b6ed376-a7da-44cb-92d1-e75ce1ae73b0", Kind.ACCEPTED),
        ("Patient/2/_history/1", Kind.ELSEWHERE),
        ("https://x.example/fhir/Patient/2", Kind.ELSEWHERE),
        ("Person/1", Kind.ELSEWHERE),
        (1, Kind.ACCEPTED),
    ],
)
def test_a_resource_stored_under_another_id_is_not_delivered(location: object, expected: Kind) -> None:
    assert kind(result(status="201 Created", location=location)) is expected


def test_a_deeply_nested_refusal_is_a_refusal() -> None:
    """JSON that can be read may be nested more deeply than JSON that can be written."""
    deep = f'{OUTCOME}","extension":{DEEP}}}]}}'.encode()
    assert kind(answered(deep, status="422 X")) is Kind.REFUSED
    assert kind(answered(b'{"entry":[{"response":{"status":"422","outcome":%s}}]}' % deep)) is Kind.REFUSED


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("9" * 400, LONGEST_PAUSE),
        ("315360000", LONGEST_PAUSE),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_PAUSE),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0),
        ("Fri, 31 Dec 1999 23:59:59 +99999999999999999999", None),
        ("-5", None),
    ],
)
def test_a_pause_is_never_for_years(told: str, expected: float | None) -> None:
    assert posted(answered(b"", f"Retry-After: {told}", status="503 X")).retry_after == expected


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b'{"entry":[' + b"[]," * 5_000_000 + b"[]]}", id="many values"),
        pytest.param(b" " * 40_000_000, id="many bytes"),
    ],
)
def test_an_answer_that_would_fill_the_memory_is_none(answer: bytes) -> None:
    with pytest.raises(ServerUnavailable, match="answer-too-large"):
        posted(answered(answer))


@pytest.mark.parametrize("status", ["301 X", "302 X", "307 X", "308 X"])
def test_credentials_are_not_sent_where_a_redirect_points(status: str) -> None:
    with RawServer(lambda _: answered(b"{}")) as other:
        got = posted(
            answered(b"", f"Location: {other.base}", status=status),
            fhir_auth="basic",
            fhir_username="ours",
            fhir_password="secret",
        )
        assert got.status == int(status[:3])
        assert other.requests == []


def test_a_server_at_an_ipv6_address_is_reached() -> None:
    with RawServer(lambda _: result(status="201"), host="::1") as server:

        async def send() -> Answer:
            settings = load_settings(fhir_server=server.base)
            async with FhirServer(settings, authorization(settings)) as client:
                return await client.transaction(b"{}")

        assert asyncio.run(send()).status == 200


def test_an_odd_statement_is_read() -> None:
    rest = {"mode": "server", "interaction": 1, "resource": [{"type": []}, {"type": {}, "interaction": [1]}, 5]}
    odd = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [None, rest]}
    assert "transactions" in lacks("http://x.example", 200, odd)


def dripping() -> Iterator[bytes]:
    """Never come to an end, one byte at a time."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    for _ in range(1_000):
        yield b" "
        time.sleep(0.05)


def one_less(request: Request) -> bytes:
    right = json.loads(stored(request).partition(b"\r\n\r\n")[2])
    return answered({**right, "entry": right["entry"][1:]})


def one_more(request: Request) -> bytes:
    right = json.loads(stored(request).partition(b"\r\n\r\n")[2])
    return answered({**right, "entry": [*right["entry"], right["entry"][0]]})


def compressed(request: Request, encoding: str, content: bytes) -> bytes:
    return answered(content, f"Content-Encoding: {encoding}")


ODD: dict[str, Callable[[Request], bytes | Iterator[bytes]]] = {
    "nothing": lambda _: answered(b""),
    "a page": lambda _: answered(f"<html>{NAMED}</html>".encode(), "Content-Type: text/html"),
    "no content": lambda _: b"HTTP/1.1 204 No Content\r\n\r\n",
    "accepted": lambda _: answered(b"", status="202 Accepted"),
    "one entry less": one_less,
    "one entry more": one_more,
    "entries without a status": lambda request: stored(request, status=""),
    "statuses that are none": lambda request: stored(request, status="²²²"),
    "no entries": lambda _: answered({"resourceType": "Bundle", "type": "transaction-response"}),
    "an outcome": lambda _: answered(f'{OUTCOME}"}}]}}'.encode()),
    "a list": lambda _: answered([NAMED]),
    "deep": lambda _: answered(DEEP.encode()),
    "not gzip": lambda request: compressed(request, "gzip", NAMED.encode()),
    "not brotli": lambda request: compressed(request, "br", NAMED.encode()),
    "a gzip bomb": lambda request: compressed(request, "gzip", gzip.compress(b" " * (1 << 28))),
    "a deflate bomb": lambda request: compressed(request, "deflate", zlib.compress(b" " * (1 << 28))),
    "cut": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
    "cut between chunks": lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    "not HTTP": lambda _: b"SSH-2.0-OpenSSH\r\n\r\n",
    "a long header": lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "an unreadable pause": lambda _: answered(
        b"", "Retry-After: Fri, 31 Dec 1999 23:59:59 +99999999999999999999", status="503 X"
    ),
    "slow": lambda _: dripping(),
}


@pytest.mark.long
def test_nothing_counts_as_delivered_without_the_servers_word(own_broker: RunningBroker) -> None:
    """Each odd answer is followed by another attempt: no dead letter, no end, and none of an answer's words is logged.

    What the server in the end has said to have stored is all that there is to store.
    """
    settings = own_broker.settings()
    expected = write(settings, some_records(settings, SOME))
    odd = deque(ODD.values())
    confirmed: set[str] = set()

    def answer(request: Request) -> bytes | Iterator[bytes]:
        if request.method == "GET":
            return statement()
        if odd:
            return odd.popleft()(request)
        confirmed.update(keys_of(request))
        return stored(request)

    with (
        RawServer(answer) as server,
        delivering(settings, server.base, FHIRLINE_DELIVER_TIMEOUT="2", FHIRLINE_LOG_LEVEL="debug") as process,
    ):
        wait_until_delivered(settings, process)
    assert process.exit_code == 0, process.report("did not end in order")
    assert not odd
    assert confirmed >= expected.keys()
    assert letters(settings) == {}
    assert waiting(settings) == []
    assert NAMED not in process.output
    assert "no-result-for-each-entry" in process.output


@pytest.mark.long
def test_a_server_with_ids_of_its_own_ends_the_process(own_broker: RunningBroker) -> None:
    """With nothing committed: each repetition would make one more copy."""
    settings = own_broker.settings()
    write(settings, some_records(settings, SOME))
    total = lag(settings)

    def answer(request: Request) -> bytes:
        return statement() if request.method == "GET" else stored(request, location="Patient/4711/_history/1")

    with RawServer(answer) as server, delivering(settings, server.base) as process:
        wait_until(lambda: not process.running, lambda: process.report("does not end"))
        assert process.exit_code == 2, process.report("ended otherwise")
        assert any("under other ids" in line for line in process.said()), process.output
        assert [request.method for request in server.requests] == ["GET", "POST"]
    assert lag(settings) == total
    assert letters(settings) == {}


@pytest.mark.parametrize(
    ("url", "auth", "warned"),
    [
        ("http://fhir.example/fhir", "basic", True),
        ("https://fhir.example/fhir", "basic", False),
        ("http://127.0.0.1:8080/fhir", "basic", False),
        ("http://fhir.example/fhir", "none", False),
    ],
)
def test_credentials_without_tls_are_warned_of(url: str, auth: str, warned: bool) -> None:
    with capture_logs() as logged:
        authorization(load_settings(fhir_server=url, fhir_auth=auth, fhir_username="ours", fhir_password="secret"))
    assert [line["event"] for line in logged] == ["credentials are sent without TLS"] * warned
    assert "secret" not in str(logged)
