"""Bodies under a signature: bounded while nobody has proved anything, and refused where their time is old."""

import hashlib
import hmac
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from fhirline.config.vendors import Credential, Freshness
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.step1_receive.credentials import CredentialCheck, is_fresh
from tests.support.paths import CONFIG
from tests.support.receiving import GatewayProcess, create_raw_topics, running_gateway
from tests.support.waiting import LIMIT, wait_until

BODY = b'{"event_type": "signed"}'
MAX_BODY = 200_000
BODIES = 4
SIGNED = {"header": "x-signature", "scheme": "hmac-sha256", "secrets": ["TEST_SIGNING"]}
FORGED = "0" * 64


@contextmanager
def signing_gateway(folder: Path, **more: str) -> Iterator[GatewayProcess]:
    """Run a gateway in which each vendor has the tenants ``signed`` and ``timed``."""
    content = yaml.safe_load((CONFIG / "vendors.yaml").read_text("utf-8"))
    for vendor in content["vendors"].values():
        timed = {**SIGNED, "freshness": {"header": "x-time", "seconds": 60}}
        vendor["tenants"] |= {"signed": {"credential": SIGNED}, "timed": {"credential": timed}}
    (folder / "vendors.yaml").write_text(yaml.safe_dump(content), "utf-8")
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        vendors = {"FHIRLINE_VENDORS_FILE": str(folder / "vendors.yaml"), "TEST_SIGNING": "key"}
        with running_gateway(broker.bootstrap, folder, **vendors, **more) as running:
            yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with signing_gateway(
        tmp_path_factory.mktemp("unverified"),
        FHIRLINE_MAX_BODY_BYTES=str(MAX_BODY),
        FHIRLINE_UNVERIFIED_BODIES=str(BODIES),
        FHIRLINE_UNVERIFIED_BODY_BYTES="1",
    ) as running:
        yield running


def signature(body: bytes, secret: bytes = b"key") -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


class Sender:
    """A connection that sends a signed request in parts."""

    def __init__(self, gateway: GatewayProcess, length: int, signed: str | None = FORGED, vendor: str = "infermedica"):
        self._connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT)
        head = f"POST /webhooks/{vendor}/signed HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        head += f"X-Signature: {signed}\r\n" if signed is not None else ""
        self._connection.sendall(f"{head}\r\n".encode())

    def send(self, part: bytes) -> None:
        self._connection.sendall(part)

    def answer(self) -> tuple[int, bytes]:
        """Return the status, and all that follows until the server ends or pauses."""
        with self._connection.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            head = b"".join(iter(stream.readline, b"\r\n"))
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            return status, head + stream.read(length)

    @property
    def waiting(self) -> bool:
        """Tell whether no answer has come."""
        self._connection.setblocking(False)
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self._connection.settimeout(LIMIT)
        return False

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def senders() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def opened(senders: ExitStack, sender: Sender) -> Sender:
    senders.callback(sender.close)
    return sender


@pytest.mark.parametrize("signed", [None, "", "zz", FORGED[:-1], FORGED + "0", "z" * 64, f"sha256={FORGED}"])
def test_a_body_without_a_signature_is_not_read(
    gateway: GatewayProcess, senders: ExitStack, signed: str | None
) -> None:
    status, answer = opened(senders, Sender(gateway, MAX_BODY, signed)).answer()
    assert status == 401
    assert b"unauthorized" in answer


def test_a_signature_over_a_body_that_comes_in_parts(gateway: GatewayProcess, senders: ExitStack) -> None:
    body = BODY + b" " * 100_000
    for signed, status in ((signature(body), 202), (signature(body).upper(), 202), (signature(body + b" "), 401)):
        sender = opened(senders, Sender(gateway, len(body), signed))
        for start in range(0, len(body), 30_000):
            sender.send(body[start : start + 30_000])
        assert sender.answer()[0] == status


def test_the_oldest_of_too_many_bodies_is_refused(gateway: GatewayProcess, senders: ExitStack) -> None:
    """A vendor's own webhook gets through between those that only wait, and another vendor has its own limit."""
    other = opened(senders, Sender(gateway, 100, vendor="mediquo"))
    other.send(b"{")
    strangers = []
    for _ in range(BODIES + 2):
        strangers.append(opened(senders, Sender(gateway, 100)))
        strangers[-1].send(b"{")
        gateway.request("GET", "/healthz")  # so that they are read in this order
    for stranger in strangers[:2]:
        status, answer = stranger.answer()
        assert (status, b"too-many-bodies" in answer, b"retry-after: 1" in answer.lower()) == (429, True, True)
    assert [item.waiting for item in strangers[2:]] == [True] * BODIES
    vendor = opened(senders, Sender(gateway, len(BODY), signature(BODY)))
    vendor.send(BODY[:5])
    assert strangers[2].answer()[0] == 429
    vendor.send(BODY[5:])
    assert vendor.answer()[0] == 202
    assert other.waiting


def test_the_bytes_of_bodies_are_bounded_together(gateway: GatewayProcess, senders: ExitStack) -> None:
    """The limit is that of one body here, since no smaller one could work. The two that are left are read whole."""
    part = b" " * 90_000
    strangers = [opened(senders, Sender(gateway, len(part) + 1)) for _ in range(3)]
    for stranger in strangers:
        stranger.send(part)
    wait_until(lambda: not all(stranger.waiting for stranger in strangers), "no body is refused")
    left = [stranger for stranger in strangers if stranger.waiting]
    assert len(left) == 2
    for stranger in left:
        stranger.send(b" ")
    assert sorted(stranger.answer()[0] for stranger in strangers) == [401, 401, 429]


def test_a_signed_time_must_be_near(gateway: GatewayProcess) -> None:
    def sent(at: str | None, body: bytes = BODY, signed_at: str | None = None) -> tuple[int, str | None]:
        signed = signature(f"{at if signed_at is None else signed_at}.".encode() + body)
        named = {"x_signature": signed} | ({"x_time": at} if at is not None else {})
        answer = gateway.post("/webhooks/infermedica/timed", body, **named)
        return answer.status, answer.json.get("error")

    now = time.time()
    near = f"{now:.0f}"
    for at in (near, f"{now * 1000:.0f}", f"{now - 50:.3f}", datetime.fromtimestamp(now + 50, UTC).isoformat()):
        assert sent(at) == (202, None), at
    for wrong in (f"{now - 70:.0f}", f"{now + 90:.0f}", "", None, "yesterday", "nan", "1e9", "2026-01-01T00:00:00Z"):
        assert sent(wrong) == (401, "not-fresh"), wrong
    assert sent(near, signed_at=f"{now - 1:.0f}") == (401, "unauthorized"), "the time is part of what is signed"


def test_times_are_read_in_three_forms() -> None:
    window = Freshness(header="x-time", seconds=10)
    assert is_fresh(window, "1700000000", 1_700_000_010)
    assert not is_fresh(window, "1700000000", 1_700_000_010.5)
    assert is_fresh(window, "1700000000123", 1_700_000_000)
    assert is_fresh(window, "2023-11-14T22:13:20Z", 1_700_000_000)
    assert is_fresh(window, "2023-11-14T23:13:20+01:00", 1_700_000_000)
    assert not is_fresh(window, "2023-11-14T22:13:20", 1_700_000_000), "no zone"
    assert not is_fresh(window, None, 1_700_000_000)


def test_a_time_that_is_not_signed() -> None:
    freshness = Freshness(header="x-time", signed_before_body="")
    credential = Credential(header="x", scheme="hmac-sha256", secrets=("A",), freshness=freshness)
    check = CredentialCheck(credential, signature(BODY), [b"key"], "1700000000")
    check.update(BODY[:3])
    check.update(BODY[3:])
    assert check.matches()


def test_freshness_needs_a_signature() -> None:
    with pytest.raises(ValidationError, match="hmac-sha256"):
        Credential(header="x", secrets=("A",), freshness=Freshness(header="x-time"))
