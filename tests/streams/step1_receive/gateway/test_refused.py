"""Requests that the gateway refuses: by path, method, type, size, credential and body."""

import hashlib
import hmac
from pathlib import Path

import pytest

from fhirline.mappers.registry import VENDORS
from tests.streams.step1_receive.gateway.connections import MAX_BODY, MAX_DEPTH, nested, raw, status_of
from tests.support.receiving import HEADER, SECRETS, SURVEY, GatewayProcess


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
