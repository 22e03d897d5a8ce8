"""Reading of bodies at the gateway and by ``fhirline ingest``, with a real broker (mapping.md §2.5)."""

import gzip
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import open_envelope
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.streams.step1_receive.test_ingest import ingest, kept
from tests.support.messages import key_of, text_headers, value_of
from tests.support.receiving import GatewayProcess, record_of, running_gateway

SECRET = "4711-marvin"


@pytest.fixture(scope="module")
def gateway(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(broker.bootstrap, folder, FHIRLINE_METRICS_PORT="0") as running:
        yield running


BODIES: list[tuple[bytes, dict[str, Any], str]] = [
    (b'{"user_id": 1, "n": NaN}', {"user_id": 1, "n": None}, "not-a-number"),
    (b'{"user_id": 1, "n": 1e400}', {"user_id": 1, "n": "1e400"}, "number-as-text"),
    (b'{"user_id": 18446744073709551616}', {"user_id": "18446744073709551616"}, "number-as-text"),
    (b'{"user_id": 18446744073709551617}', {"user_id": "18446744073709551617"}, "number-as-text"),
    (b'{"user_id": 2, "a": "so \\ud83d"}', {"user_id": 2, "a": "so \ufffd"}, "text-damaged"),
    (b'{"user_id": 2, "user_id": 3}', {"user_id": 3, "user_id[repeated 1]": 2}, "repeated-key"),
    (b'{"user_id": 2, "a": "one\ttwo"}', {"user_id": 2, "a": "one\ttwo"}, "json-not-strict"),
    (b'\xef\xbb\xbf{"user_id": 3}', {"user_id": 3}, "byte-order-mark"),
    (
        json.dumps({"user_id": 4, "data": json.dumps({"dispense": json.dumps({"pass_code": SECRET})})}).encode(),
        {"user_id": 4, "data": {"dispense": {"pass_code": "[redacted]"}}},
        "json-in-text",
    ),
    (
        json.dumps(json.dumps({"user_id": 5, "pass_code": SECRET})).encode(),
        {"user_id": 5, "pass_code": "[redacted]"},
        "json-in-text",
    ),
]


@pytest.mark.parametrize(("sent", "stored", "flag"), BODIES, ids=[flag for *_, flag in BODIES])
def test_the_gateway_stores_the_body_as_read(
    gateway: GatewayProcess, broker: EmbeddedBroker, sent: bytes, stored: dict[str, Any], flag: str
) -> None:
    answer = gateway.post("/webhooks/altibbi", sent)
    assert answer.status == 202
    record = record_of(broker.bootstrap, "altibbi", answer.json["event_key"])
    assert orjson.loads(value_of(record)) == stored
    assert key_of(record) == f"default|{stored['user_id']}".encode()
    headers = text_headers(record)
    assert headers["body-flags"] == flag
    received = Instant.parse(headers["received-at"])
    assert received is not None
    again = open_envelope("altibbi", "default", value_of(record), received, flags=[flag])
    assert (again.event_key, again.flags) == (answer.json["event_key"], (flag,))
    assert SECRET not in gateway.logged


def test_ingest_stores_what_the_gateway_stores(broker: EmbeddedBroker, gateway: GatewayProcess, tmp_path: Path) -> None:
    (tmp_path / "events.ndjson").write_bytes(b"".join(sent + b"\n" for sent, *_ in BODIES))
    done = ingest(broker, tmp_path, "altibbi", "events.ndjson", "--tenant", "acme")
    assert (done.code, done.err) == (0, "")
    keys = [gateway.post("/webhooks/altibbi/acme", sent).json["event_key"] for sent, *_ in BODIES]
    found = kept(broker, "altibbi", "acme")
    assert len(found) == 2 * len(BODIES)
    for (_, stored, flag), event_key in zip(BODIES, keys, strict=True):
        both = [item for item in found if item[2]["event-key"] == event_key]
        assert [(key, orjson.loads(value), headers["body-flags"]) for key, value, headers, _ in both] == [
            (f"acme|{stored['user_id']}".encode(), stored, flag)
        ] * 2
    assert len(set(keys)) == len(keys)


def test_what_nobody_can_read_is_logged_and_counted(gateway: GatewayProcess) -> None:
    sent = b'{"a":\n  ' + SECRET.encode()
    assert gateway.post("/webhooks/mediquo", sent).refused == (400, "not-json")
    line = gateway.event("body unreadable")
    told = {name: line[name] for name in ("vendor", "tenant", "code", "reason", "bytes", "sha256", "line", "column")}
    assert told == {
        "vendor": "mediquo",
        "tenant": "default",
        "code": "not-json",
        "reason": "syntax",
        "bytes": len(sent),
        "sha256": sha256(sent).hexdigest(),
        "line": 2,
        "column": 7,
    }
    assert SECRET not in gateway.logged
    for cut_off in (b'{"a": 1', b'{"a": "x'):
        assert gateway.post("/webhooks/azodha", cut_off).refused == (400, "not-json")
    text = gateway.metrics
    counted = {
        (sample.labels["vendor"], sample.labels["reason"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "fhirline_unreadable_bodies_total" and sample.value
    }
    assert counted == {("mediquo", "syntax"): 1, ("azodha", "cut-off"): 2}


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("export.ndjson.gz", gzip.compress(b'{"user_id": 1}\n', mtime=0), "gzip"),
        ("export.zip", b"PK\x03\x04\x14\x00", "a ZIP archive"),
        ("export.utf16.ndjson", '{"user_id": 1}\n'.encode("utf-16"), "UTF-16"),
        ("export.utf32.ndjson", '{"user_id": 1}\n'.encode("utf-32"), "UTF-32"),
        ("export.utf32be.ndjson", '{"user_id": 1}\n'.encode("utf-32-be"), "UTF-32"),
        ("export.utf16le.ndjson", '{"user_id": 1}\n'.encode("utf-16-le"), "UTF-16"),
    ],
)
def test_a_file_in_another_format_is_named_as_such(
    broker: EmbeddedBroker, tmp_path: Path, name: str, content: bytes, format_: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for argument, shown, stdin in ((name, name, b""), ("-", "standard input", content)):
        done = ingest(broker, tmp_path, "altibbi", argument, "--tenant", "acme", stdin=stdin)
        assert (done.code, done.out) == (2, "")
        assert f"{shown}: the file is {format_}, not UTF-8 text" in done.err
