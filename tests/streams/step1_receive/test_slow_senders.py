"""A thousand senders that stall cost a vendor no webhook, and the gateway little memory."""

import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.streams.step1_receive.test_unverified import BODY, FORGED, signature, signing_gateway
from tests.support.memory import peak_memory, used_memory
from tests.support.receiving import GatewayProcess
from tests.support.waiting import LIMIT

SENDERS = int(os.environ.get("SLOW_SENDERS") or 1_000)
STALL = 40_000
"""Bytes of a body of which no more comes."""

BODIES = 64
"""Bodies of a vendor that are read at once before their signatures are checked."""

MOST_MEMORY = 40 + BODIES * STALL // 2**20 + SENDERS * 32_768 // 2**20
"""MiB: what serving needs, the bodies that are held, and some 32 KiB for each connection."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway that is started with a limit of open files that its senders reach: it raises the limit itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SENDERS // 2, hard))
    try:
        with signing_gateway(tmp_path, FHIRLINE_UNVERIFIED_BODIES=str(BODIES)) as running:
            assert running.port
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * SENDERS), hard))
            yield running
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def head(length: int, signed: str) -> bytes:
    return (
        f"POST /webhooks/infermedica/signed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\nX-Signature: {signed}\r\n\r\n"
    ).encode()


@pytest.mark.long
@pytest.mark.parametrize("sent", ["a part of the head", "a few bytes of the body", "most of the body"])
def test_a_webhook_gets_through_between_slow_senders(
    gateway: GatewayProcess, sent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {
        "a part of the head": head(STALL, FORGED)[:40],
        "a few bytes of the body": head(STALL, FORGED) + b'{"a',
        "most of the body": head(4_000_000, FORGED) + b" " * STALL,
    }
    before = used_memory(gateway.pid)
    statuses: Counter[int] = Counter()
    with ExitStack() as opened:
        for number in range(SENDERS):
            sender = opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT))
            sender.sendall(parts[sent])
            if number % (SENDERS // 10) == 0:
                statuses[post(gateway)] += 1
        began = time.monotonic()
        for _ in range(10):
            statuses[post(gateway)] += 1
        seconds = (time.monotonic() - began) / 10
        after, peak = used_memory(gateway.pid), peak_memory(gateway.pid)
    with capsys.disabled():
        print(
            f"\n{SENDERS} senders of {sent}: answers {dict(statuses)}, {seconds * 1000:.0f} ms each; "
            f"memory {before} → {after} MiB, at most {peak}"
        )
    assert statuses == {202: 20}
    assert peak - before < MOST_MEMORY


def post(gateway: GatewayProcess) -> int:
    return gateway.post("/webhooks/infermedica/signed", BODY, x_signature=signature(BODY)).status
