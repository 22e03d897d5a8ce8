"""Records that the gateway stores of an event, over real HTTP, with a real broker."""

import threading
from typing import Any

import orjson
import pytest

from fhirline.config.vendors import load_vendors
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import open_envelope
from fhirline.mappers.registry import VENDORS, raw_key
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.step1_receive.routes import NoRoute, Route, Routes
from tests.streams.step1_receive.gateway.connections import MAX_DEPTH, nested
from tests.support.messages import key_of, text_headers, value_of
from tests.support.receiving import SECRETS, GatewayProcess, record_of, stored


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
