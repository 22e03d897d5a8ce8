"""The gateway's log, which has nothing of a body."""

from pydantic import BaseModel, ValidationError

from fhirline.mappers.registry import VENDORS
from fhirline.streams.observe.logs import describe_error, without_messages
from tests.streams.step1_receive.gateway.connections import MARKER, MAX_BODY
from tests.support.receiving import HEADER, SECRETS, GatewayProcess


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
    assert "streams/step1_receive/gateway/test_log.py:" in outer
    assert inner.startswith("ValidationError at ")
    assert describe_error(OSError(2, "No such file")) == "FileNotFoundError: [Errno 2] No such file"


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
