"""The gateway as a process, over real HTTP, with a real broker."""

import hashlib
import hmac
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, ValidationError

from fhirline.config.vendors import load_vendors
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import open_envelope
from fhirline.mappers.registry import VENDORS, raw_key
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.observe.logs import described, without_messages
from fhirline.streams.step1_receive.routes import NoRoute, Route, Routes
from tests.support.messages import key_of, text_headers, value_of
from tests.support.receiving import (
    HEADER,
    SECRETS,
    SURVEY,
    GatewayProcess,
    create_raw_topics,
    post_until_taken,
    record_of,
    running_gateway,
    stored,
    vendors_file,
)
from tests.support.waiting import LIMIT, wait_until

MAX_BODY = 200_000
MAX_DEPTH = 20
MARKER = "Zaphod-Beeblebrox"
"""In place of a patient's data: must never be logged or answered."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def gateway(broker: EmbeddedBroker, folder: Path) -> Iterator[GatewayProcess]:
    with running_gateway(
        broker.bootstrap,
        folder,
        FHIRLINE_VENDORS_FILE=str(vendors_file(folder)),
        FHIRLINE_MAX_BODY_BYTES=str(MAX_BODY),
        FHIRLINE_MAX_DEPTH=str(MAX_DEPTH),
        FHIRLINE_LOG_LEVEL="debug",
        TEST_SIGNING_OLD="old",
        TEST_SIGNING_NEW_FILE=str(folder / "signing"),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(broker: EmbeddedBroker, folder: Path) -> Iterator[GatewayProcess]:
    """A gateway that waits a second for a head and for a body, which an honest sender on a busy machine may need."""
    with running_gateway(broker.bootstrap, folder, FHIRLINE_GATEWAY_READ_TIMEOUT="1") as running:
        yield running


# --- what is stored ---------------------------------------------------------------------------------------------------


def test_an_event_is_stored_before_the_answer_202(gateway: GatewayProcess, broker: EmbeddedBroker) -> None:
    before = Instant.parse("2024-01-01T00:00:00Z")
    survey = {"event_type": "survey_finished", "content": {"survey_id": "s-kept"}}  # no other test sends it
    answer = gateway.post("/webhooks/infermedica", survey)
    assert answer.status == 202
    record = record_of(broker.bootstrap, "infermedica", answer.json["event_key"])
    headers = text_headers(record)
    received_at = Instant.parse(headers.pop("received-at"))
    assert received_at is not None
    assert before is not None
    assert received_at > before
    assert headers == {"tenant": "default", "event-key": answer.json["event_key"]}
    assert record.timestamp()[1] == received_at.order[0] * 1000 + int(received_at.order[1].ljust(3, "0"))
    assert orjson.loads(value_of(record)) == survey
    assert record.key() == b"default|survey/s-kept"


def test_equal_events_have_one_key_in_any_formatting(gateway: GatewayProcess) -> None:
    """mapping.md §2.1: the event key is computed from the canonical form."""
    first = gateway.post("/webhooks/infermedica/acme", b'{"event_type": "x", "content": {"survey_id": "s-2"}}')
    again = gateway.post("/webhooks/infermedica/acme", b'{"content":{"survey_id":"s-2"},"event_type":"x"}')
    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json


def test_of_a_key_that_is_sent_twice_the_last_counts_and_the_other_is_kept(
    gateway: GatewayProcess, broker: EmbeddedBroker
) -> None:
    answer = gateway.post("/webhooks/infermedica", b'{"event_type": "a", "event_type": "b"}')
    assert answer.status == 202
    assert orjson.loads(value_of(record_of(broker.bootstrap, "infermedica", answer.json["event_key"]))) == {
        "event_type": "b",
        "event_type[repeated 1]": "a",
    }


@pytest.mark.parametrize(
    ("vendor", "path", "body", "secrets"),
    [
        (
            "altibbi",
            "/webhooks/altibbi",
            {
                "type": "new_consultation_recommendation",
                "user_id": 7,
                "data": {
                    "dispense": {
                        "pass_code": "4711",
                        "url": "https://rx.example/s3cr3t",
                        "qr_code": "https://rx.example/qr3",
                        "name": "n4me",
                    },
                    "note": "kept",
                },
            },
            ("4711", "s3cr3t", "qr3", "n4me"),
        ),
        ("altibbi", "/webhooks/altibbi", {"user_id": 8, "data": {"dispense": {"pass_code": 4712}}}, ("4712",)),
        (
            "altibbi",
            "/webhooks/altibbi",
            {"user_id": 9, "data": [{"dispense": [{"Pass-Code": "4713"}]}], "note": "kept"},
            ("4713",),
        ),
        (
            "mediquo",
            "/webhooks/mediquo/acme",
            {
                "type": "patient_consultation_finished",
                "payload": {
                    "patient": {"code": "p-1"},
                    "consultation": {"id": "c", "consultation_url": "https://room/one", "url": "https://room/two"},
                    "professional": {"avatar": "https://kept.example/a.png"},
                },
            },
            ("room/one", "room/two"),
        ),
        (
            "azodha",
            "/webhooks/azodha/Notification",
            {
                "patientId": "p-1",
                "secret": "s3cr3t",
                "apiKey": "k3y",
                "attributes": {"api_key": "k4y", "organizationCode": "0rg"},
                "data": {"appointment": {"openTeleRoom": {"id": "r00m", "token": ["t0ken", 90210]}}, "x": "kept"},
            },
            ("s3cr3t", "k3y", "k4y", "0rg", "r00m", "t0ken", "90210"),
        ),
        ("azodha", "/webhooks/azodha/acme/OpenTele", {"patientId": "p-2", "openTeleRoom": "https://r00m"}, ("r00m",)),
    ],
)
def test_no_secret_is_stored(
    gateway: GatewayProcess, broker: EmbeddedBroker, vendor: str, path: str, body: Any, secrets: tuple[str, ...]
) -> None:
    """Everything that mapping.md §7 lists is removed, and nothing else."""
    answer = gateway.post(path, body)
    assert answer.status == 202
    record = record_of(broker.bootstrap, vendor, answer.json["event_key"])
    whole = value_of(record) + key_of(record) + repr(record.headers()).encode()
    assert [secret for secret in secrets if secret.encode() in whole] == []
    assert whole.count(b"[redacted]") == len(secrets)
    assert (b"kept" in orjson.dumps(body)) == (b"kept" in whole)
    assert SECRETS[vendor].encode() not in whole


def test_a_retry_with_another_pass_code_is_the_same_event(gateway: GatewayProcess) -> None:
    """mapping.md §2.1: a four-digit code must not be in the hash, from which it could be guessed."""
    keys = {
        gateway.post("/webhooks/altibbi", {"user_id": 1, "data": {"dispense": {"pass_code": code}}}).json["event_key"]
        for code in ("1234", "9876")
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("path", "tenant", "event"),
    [
        ("/webhooks/azodha", "default", None),
        ("/webhooks/azodha/acme", "acme", None),
        ("/webhooks/azodha/BookAppointment", "default", "BookAppointment"),
        ("/webhooks/azodha/acme/SurveyAssessment", "acme", "SurveyAssessment"),
    ],
)
def test_azodhas_routes_name_tenant_and_event(
    gateway: GatewayProcess, broker: EmbeddedBroker, path: str, tenant: str, event: str | None
) -> None:
    body = {"data": {"patient": {"id": "p-3"}}, "path": path}
    answer = gateway.post(path, body)
    assert answer.status == 202
    record = record_of(broker.bootstrap, "azodha", answer.json["event_key"])
    headers = text_headers(record)
    assert (headers["tenant"], headers.get("event-type")) == (tenant, event)
    received_at = Instant.parse(headers["received-at"])
    assert received_at is not None
    opened = open_envelope("azodha", tenant, orjson.dumps(body), received_at, event)
    assert record.key() == raw_key(opened).encode()
    assert record.key() == f"{tenant}|p-3".encode()


def test_every_event_of_azodha_has_a_route() -> None:
    routes = Routes(load_vendors())
    names = (
        *("AppointmentToCareTaskActivityLog", "InferenceToObservations", "InferenceToKeyFindings", "OpenTele"),
        *("AssessmentResponseToWellbeingScore", "BookAppointment", "InferenceToCareTasks", "HealthRecordCounter"),
        *("Notification", "HealthProgramActivated", "UploadedFileAndTest", "SurveyAssessment"),
    )
    for name in names:
        assert routes.resolve("azodha", name) == Route("azodha", "default", name)
        assert routes.resolve("azodha", "acme", name) == Route("azodha", "acme", name)
        with pytest.raises(NoRoute):
            routes.resolve("mediquo", name)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/webhooks/nobody", "unknown-vendor"),
        ("/webhooks/MediQuo", "unknown-vendor"),
        ("/webhooks/mediquo/stranger", "unknown-tenant"),
        ("/webhooks/mediquo/acme/BookAppointment", "not-found"),
        ("/webhooks/azodha/bookappointment", "unknown-tenant"),
        ("/webhooks/azodha/acme/NoSuchEvent", "unknown-event"),
        ("/webhooks/azodha/stranger/BookAppointment", "unknown-tenant"),
        ("/webhooks/azodha/acme/BookAppointment/more", "not-found"),
        ("/webhooks/nobody/", "unknown-vendor"),
        ("/webhooks/mediquo//", "not-found"),
        ("/webhooks/", "not-found"),
        ("/", "not-found"),
    ],
)
def test_404(gateway: GatewayProcess, path: str, code: str) -> None:
    assert gateway.request("POST", path, b"{}", {"content-type": "application/json"}).refused == (404, code)


def test_405(gateway: GatewayProcess) -> None:
    answer = gateway.request("GET", "/webhooks/mediquo")
    assert answer.refused == (405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    assert gateway.request("DELETE", "/healthz").refused[0] == 405


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202),
        ("Application/JSON; Charset=UTF-8", 202),
        ('application/json; charset="utf-8"', 202),
        ("application/cloudevents+json", 202),
        (None, 202),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("image/svg+json", 415),
    ],
)
def test_415(gateway: GatewayProcess, content_type: str | None, status: int) -> None:
    answer = gateway.post("/webhooks/infermedica", SURVEY, content_type=content_type or "")
    assert answer.status == status
    if status == 415:
        assert answer.refused == (415, "unsupported-media-type")


def test_a_compressed_body_is_not_unpacked(gateway: GatewayProcess) -> None:
    answer = gateway.post("/webhooks/infermedica", SURVEY, content_encoding="gzip")
    assert answer.refused == (415, "unsupported-media-type")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(MAX_BODY, 202), (MAX_BODY + 1, 413), (20 * MAX_BODY, 413)])
def test_413(gateway: GatewayProcess, chunked: bool, size: int, status: int) -> None:
    body = b'{"event_type": "' + b"x" * (size - 18) + b'"}'
    assert len(body) == size
    sent = [body[start : start + 10_000] for start in range(0, size, 10_000)] if chunked else body
    headers = {"content-type": "application/json", HEADER["infermedica"]: SECRETS["infermedica"]}
    answer = gateway.request("POST", "/webhooks/infermedica", sent, headers)
    assert answer.status == status
    if status == 413:
        assert answer.refused == (413, "body-too-large")


@pytest.mark.parametrize("vendor", VENDORS)
def test_401(gateway: GatewayProcess, vendor: str) -> None:
    """Also where the body is no JSON."""
    header = HEADER[vendor].replace("-", "_")
    other = SECRETS["altibbi" if vendor != "altibbi" else "azodha"]
    for wrong in ("", "wrong", other, SECRETS[vendor] + "x", SECRETS[vendor].upper()):
        assert gateway.post(f"/webhooks/{vendor}", b"no json", **{header: wrong}).refused == (401, "unauthorized")
    assert gateway.post(f"/webhooks/{vendor}", b"no json").refused == (400, "not-json")


def test_two_credentials_are_refused(gateway: GatewayProcess) -> None:
    head = f"{HEADER['mediquo']}: {SECRETS['mediquo']}\r\n"
    with raw(gateway, "/webhooks/mediquo", head * 2 + "Content-Length: 2\r\n") as connection:
        connection.sendall(b"{}")
        assert status_of(connection) == 401


def test_a_signed_webhook(gateway: GatewayProcess, folder: Path) -> None:
    """HMAC-SHA-256 over the raw bytes, with two valid secrets, one of which changes in its file meanwhile."""
    body = b'{ "event_type" : "signed" }'

    def sent(secret: str, content: bytes = body) -> int:
        signed = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return gateway.post("/webhooks/infermedica/signed", content, x_hub_signature_256=f"sha256={signed}").status

    assert sent("old") == 202
    assert sent("old", body.replace(b" ", b"")) == 401
    assert sent("new") == 401
    (folder / "signing").write_text("new\nnewer\n")
    assert (sent("old"), sent("new"), sent("newer")) == (202, 202, 202)
    (folder / "signing").write_text("newer\n")
    assert (sent("new"), sent("newer")) == (401, 202)
    assert gateway.post("/webhooks/infermedica/signed", body).status == 401  # the vendor's static secret is not enough


def test_without_a_secret_every_request_is_refused(gateway: GatewayProcess) -> None:
    for sent in ("anything", "", "None"):
        assert gateway.post("/webhooks/mediquo/keyless", {}, x_key=sent).refused == (401, "unauthorized")
    line = gateway.event("no secret configured")
    assert line["setting"] == "TEST_NOT_SET_ANYWHERE"
    ready = gateway.request("GET", "/readyz")
    assert ready.status == 503
    assert any("TEST_NOT_SET_ANYWHERE" in problem for problem in ready.json["problems"])


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"1" + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not-json"),
        (b"  ", "not-json"),
        (b"{", "not-json"),
        (b"a=b&c=d", "not-json"),
        (b'{"a": "\xff\xfe"}', "not-json"),
        ('{"a": "é"}'.encode("latin-1"), "not-json"),
        ('{"a": "é"}'.encode("utf-16"), "not-json"),
        (b"[]", "not-an-object"),
        (b'"text"', "not-an-object"),
        (b"null", "not-an-object"),
        (b"12", "not-an-object"),
        (nested(MAX_DEPTH + 1), "too-deep"),
        (nested(900), "too-deep"),
        (nested(50_000), "too-deep"),
    ],
    ids=lambda item: item[:20] if isinstance(item, bytes) else item,
)
def test_400(gateway: GatewayProcess, body: bytes, code: str) -> None:
    assert gateway.post("/webhooks/infermedica", body).refused == (400, code)


@pytest.mark.parametrize(
    "body",
    [
        nested(MAX_DEPTH),
        b"{}",
        b'{"event_type": 5, "content": []}',
        b'{"content": {"survey_id": {"a": []}}}',
        '{"event_type": "مرحبا", "content": {"survey_id": "<script>|/%\\u0000"}}'.encode(),
        b'{"a": 123456789012345678901234567890, "b": 1e308}',
    ],
)
@pytest.mark.parametrize("vendor", VENDORS)
def test_unusual_objects_are_stored_too(gateway: GatewayProcess, vendor: str, body: bytes) -> None:
    assert gateway.post(f"/webhooks/{vendor}", body).status == 202


# --- senders that misbehave -------------------------------------------------------------------------------------------


def raw(gateway: GatewayProcess, path: str, headers: str) -> socket.socket:
    """Open a connection and send the head of a request."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    return connection


def status_of(connection: socket.socket) -> int:
    with connection.makefile("rb") as stream:
        return int(stream.readline().split()[1])


CREDENTIAL = f"{HEADER['infermedica']}: {SECRETS['infermedica']}\r\n"


def test_a_body_that_does_not_arrive(hasty: GatewayProcess) -> None:
    with raw(hasty, "/webhooks/infermedica", CREDENTIAL + "Content-Length: 100\r\n") as connection:
        connection.sendall(b'{"event_type":')
        assert status_of(connection) == 408


@pytest.mark.parametrize("sent", [b"", b"POST /webhooks/infermedica HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_arrive(hasty: GatewayProcess, sent: bytes) -> None:
    """The connection is closed although bytes trickle in. Otherwise a few thousand would use up all descriptors."""
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=LIMIT) as connection:
        connection.sendall(sent)
        connection.settimeout(0.1)
        closed = False
        while not closed:
            try:
                closed = connection.recv(1) == b""
            except TimeoutError:
                if sent:
                    connection.sendall(b"x")
            except ConnectionError:
                closed = True
    assert hasty.event("invalid http")["error"] == "no head in time"


def test_the_body_is_not_read_without_a_credential(gateway: GatewayProcess) -> None:
    """A static credential is in the head, so that a request without one is refused before its body is read."""
    with raw(gateway, "/webhooks/infermedica", f"Content-Length: {MAX_BODY}\r\n") as connection:
        assert status_of(connection) == 401


@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_sender_that_disconnects_stores_nothing(
    gateway: GatewayProcess, broker: EmbeddedBroker, framing: str
) -> None:
    """A part of a body is never stored as the whole, even where it is JSON."""
    before = len(stored(broker.bootstrap, "infermedica"))
    gone = gateway.logged.count('"client-gone"')
    with raw(gateway, "/webhooks/infermedica", CREDENTIAL + framing) as connection:
        connection.sendall(b"{}" if "Length" in framing else b"2\r\n{}\r\n")
    gateway.line(lambda line: line.get("error") == "client-gone" and gateway_count(gateway) > gone)
    assert len(stored(broker.bootstrap, "infermedica")) == before


def gateway_count(gateway: GatewayProcess) -> int:
    return gateway.logged.count('"client-gone"')


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Transfer-Encoding: chunked\r\n", f"{MARKER}\r\n{{}}\r\n0\r\n\r\n"),
        (f"{MARKER} and no colon\r\n", "{}"),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        (f"Content-Length: {MARKER}\r\n", "{}"),
    ],
)
def test_invalid_http(gateway: GatewayProcess, headers: str, body: str) -> None:
    """It is refused as JSON, and not quoted."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT) as connection:
        head = f"POST /webhooks/infermedica HTTP/1.1\r\nHost: x\r\n{CREDENTIAL}{headers}\r\n"
        connection.sendall((head + body).encode())
        with connection.makefile("rb") as stream:
            answer = stream.read()
    assert answer.split()[1] == b"400"
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "bad-request"
    assert MARKER.encode() not in answer
    assert MARKER not in gateway.logged


def test_nothing_of_a_body_is_logged_or_answered(gateway: GatewayProcess) -> None:
    said = b""
    for body in (
        {"event_type": MARKER, "content": {"survey_id": MARKER}},
        f'{{"a": "{MARKER}"'.encode(),
        f'["{MARKER}"]'.encode(),
        f'{{"{MARKER}": {"[" * 30}{"]" * 30}}}'.encode(),
        f'{{"a": "{MARKER}{"x" * MAX_BODY}"}}'.encode(),
    ):
        for vendor in VENDORS:
            for headers in ({}, {HEADER[vendor].replace("-", "_"): MARKER}, {"content_type": MARKER}):
                answer = gateway.post(f"/webhooks/{vendor}", body, **headers)
                said += answer.body + repr(answer.headers).encode()
    said += gateway.post(f"/webhooks/{MARKER}", {}).body + gateway.post(f"/webhooks/mediquo/{MARKER}", {}).body
    gateway.post("/webhooks/infermedica", {"last": "one"})
    gateway.line(lambda line: line.get("status") == 202)
    logged = gateway.logged
    assert MARKER.encode() not in said
    assert MARKER not in logged
    assert [secret for secret in SECRETS.values() if secret in logged] == []


def test_an_exception_is_logged_by_type_and_place() -> None:
    """pydantic's message quotes its input, and so does an exception raised from it."""

    class Payload(BaseModel):
        age: int

    try:
        try:
            Payload.model_validate({"age": MARKER})
        except ValidationError as error:
            raise ValueError(f"wrong: {MARKER}") from error
    except ValueError as error:
        line = without_messages(None, "", {"event": "defect", "exc_info": error})
    assert MARKER not in repr(line)
    [outer, inner] = line["exception"]
    assert outer.startswith("ValueError at ")
    assert "tests/streams/step1_receive/test_gateway.py:" in outer
    assert inner.startswith("ValidationError at ")
    assert described(OSError(2, "No such file")) == "FileNotFoundError: [Errno 2] No such file"


def test_the_access_log_says_which_event(gateway: GatewayProcess) -> None:
    answer = gateway.post("/webhooks/azodha/acme/BookAppointment", {"patientId": "p-9", "n": 1})
    key = answer.json["event_key"]
    line = gateway.line(lambda line: line.get("event_key") == key and line["event"] == "request")
    assert line.pop("ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        "event": "request",
        "level": "info",
        "method": "POST",
        "route": "/webhooks/{vendor}/{first}/{second}",
        "vendor": "azodha",
        "tenant": "acme",
        "status": 202,
        "event_key": key,
    }


# --- Kafka down, start and shutdown -----------------------------------------------------------------------------------


def test_healthy_and_ready(broker: EmbeddedBroker, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    with running_gateway(broker.bootstrap, tmp_path, "--port-file", str(port_file)) as gateway:
        assert gateway.request("GET", "/healthz").json == {"status": "ok"}
        assert gateway.request("GET", "/readyz").json == {"status": "ready"}
        gateway.post("/webhooks/infermedica", SURVEY)
        assert int(port_file.read_text()) == gateway.port
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(12) == b"HTTP/1.1 200"
            gateway.terminate()
            assert gateway.ended() == 0


@pytest.mark.long
def test_kafka_stops_and_comes_back(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        with running_gateway(broker.bootstrap, tmp_path, FHIRLINE_GATEWAY_DELIVERY_TIMEOUT="1.5") as gateway:
            post_until_taken(gateway)
            broker.stop()
            answer = gateway.post("/webhooks/infermedica", {"event_type": MARKER})
            assert answer.refused == (503, "kafka-unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert gateway.request("GET", "/healthz").status == 200
            ready = gateway.request("GET", "/readyz")
            assert ready.status == 503
            assert "FHIRLINE_BOOTSTRAP" in ready.json["problems"][0]
            with EmbeddedBroker(broker.port) as again:
                assert gateway.post("/webhooks/infermedica", SURVEY).refused == (503, "kafka-unavailable")
                assert "raw.infermedica" not in topics_of(again), "a webhook has created the topic"
                create_raw_topics(again)
                event_key = post_until_taken(gateway)
                assert record_of(again.bootstrap, "infermedica", event_key)
                gateway.terminate()
                assert gateway.ended() == 0
            assert MARKER not in gateway.logged


def topics_of(broker: EmbeddedBroker) -> set[str]:
    from confluent_kafka.admin import AdminClient

    return set(AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=LIMIT).topics)


@pytest.mark.long
def test_a_broker_that_hangs_and_recovers(tmp_path: Path) -> None:
    """503 for the waiting request, 429 for those beyond the limit in flight, and 202 again afterwards."""
    with EmbeddedBroker() as broker:
        create_raw_topics(broker)
        with running_gateway(
            broker.bootstrap,
            tmp_path,
            FHIRLINE_GATEWAY_DELIVERY_TIMEOUT="6",
            FHIRLINE_MAX_IN_FLIGHT="1",
            FHIRLINE_METRICS_PORT="0",
        ) as gateway:
            post_until_taken(gateway)
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                with ThreadPoolExecutor(1) as thread:
                    first = thread.submit(gateway.post, "/webhooks/infermedica", {"n": 0})
                    wait_until(lambda: waiting(gateway), "no webhook waits for Kafka")
                    others = [gateway.post("/webhooks/infermedica", {"n": n}).status for n in range(1, 5)]
                    assert not first.done(), "the others came too late to say anything"
                    assert first.result().status == 503
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            assert others == [429, 429, 429, 429]
            post_until_taken(gateway)


def waiting(gateway: GatewayProcess) -> bool:
    return "\nfhirline_webhooks_in_flight 1.0\n" in gateway.metrics


def test_an_event_that_is_too_large_for_kafka(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with running_gateway(broker.bootstrap, tmp_path, FHIRLINE_MESSAGE_MAX_BYTES="65536") as gateway:
        answer = gateway.post("/webhooks/infermedica", {"event_type": "x" * 70_000})
        assert answer.refused == (413, "record-too-large")
        assert gateway.post("/webhooks/infermedica", SURVEY).status == 202


def test_sigterm_lets_requests_in_flight_finish(broker: EmbeddedBroker, tmp_path: Path) -> None:
    body = b'{"event_type": "last", "content": {"survey_id": "in-flight"}}'
    with running_gateway(broker.bootstrap, tmp_path) as gateway:
        with raw(gateway, "/webhooks/infermedica", CREDENTIAL + f"Content-Length: {len(body)}\r\n") as connection:
            connection.sendall(body[:10])
            assert gateway.request("GET", "/healthz").status == 200  # so the head has been read
            gateway.terminate()
            gateway.event("gateway stopping")
            connection.sendall(body[10:])
            assert status_of(connection) == 202
        assert gateway.ended() == 0
    assert b"default|survey/in-flight" in {item.key() for item in stored(broker.bootstrap, "infermedica")}


def test_a_burst_of_senders(gateway: GatewayProcess, broker: EmbeddedBroker) -> None:
    """Each 202 is a record; one patient's events are in one partition."""
    keys: list[str] = []

    def send(sender: int) -> None:
        for n in range(25):
            answer = gateway.post("/webhooks/altibbi", {"user_id": f"burst-{sender}", "n": n})
            assert answer.status == 202
            keys.append(answer.json["event_key"])

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    records = [message for message in stored(broker.bootstrap, "altibbi") if b"burst-" in key_of(message)]
    assert sorted(text_headers(item)["event-key"] for item in records) == sorted(keys)
    assert len(keys) == 200
    partitions: dict[bytes, set[int | None]] = {}
    for record in records:
        partitions.setdefault(key_of(record), set()).add(record.partition())
    assert [len(found) for found in partitions.values()] == [1] * 8


def test_a_port_in_use_is_reported_in_one_line(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running_gateway(broker.bootstrap, tmp_path, "--port", port) as gateway:
            assert gateway.ended() == 2
            [line] = [item for item in gateway.logged.splitlines() if item.startswith("fhirline: ")]
            assert "FHIRLINE_GATEWAY_PORT" in line
