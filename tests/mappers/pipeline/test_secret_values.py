"""Values that look like credentials are withheld from all that is made of an event; clinical text is kept."""

from typing import Any

import orjson
import pytest

from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized
from fhirline.mappers.pipeline.redaction import REDACTED
from fhirline.mappers.pipeline.secret_values import secret_value, without_credentials
from tests.support.cases import Case

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "value",
    [
        JWT,
        "Bearer SECRETTOKEN0123456789",
        "Authorization: Bearer abcdef0123456789",
        "Authorization: Basic dXNlcjpwYXNzd29yZA==",
        "https://img.example.org/a.png?X-Amz-Signature=abc&X-Amz-Expires=300",
        "https://img.example.org/a.png?width=9&sig=abc",
        "https://img.example.org/a.png?expires=1700000000",
        "https://app.example.org/#access_token=abc",
        "https://user:password@example.org/room",
        "//cdn.example.org/a.png?token=abc",
        "rooms.example.org/7?key=abc",
        "token=abc123&user=1",
        "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADAN\n-----END PRIVATE KEY-----",
    ],
)
def test_a_credential_is_withheld(value: str) -> None:
    assert without_credentials(value) == REDACTED
    assert secret_value(value)
    assert (
        without_credentials(f"Patient well. {value} Review in a week.") == f"Patient well. {REDACTED} Review in a week."
    )


@pytest.mark.parametrize(
    "value",
    [
        "Basic metabolic panel",
        "Basic hygiene",
        "bearer of a BRCA1 mutation",
        "Token economy programme, 12 weeks",
        "Email:john@example.org or mail john@example.org",
        "T=37.5; pulse=80/min; SpO2=98%",
        "Is the pain worse at night? score=7",
        "Signature of the patient obtained. No secret.",
        "key=normal, pin in the left hip",
        "https://example.org/leaflet?page=2&lang=en",
        "Take 1 tablet twice daily",
    ],
)
def test_clinical_text_is_kept(value: str) -> None:
    assert without_credentials(value) is value


@pytest.mark.parametrize("key", ["session", "sig", "auth"])
def test_an_ordinary_word_is_withheld_only_with_an_opaque_value(key: str) -> None:
    assert secret_value("9f8e7d6c5b4a3210", key)
    assert not secret_value("Take 1 tablet daily", key)
    assert not secret_value("9f8e7d6c5b4a3210", "batch")


def mapped(**professional: Any) -> Normalized:
    body = {
        "type": "patient_consultation_finished",
        "occurred_on": 1717243500,
        "payload": {
            "consultation": {"id": "c-1"},
            "patient": {"code": "p-1"},
            "professional": {"id": "d-1", "name": "Dr. Doe", **professional},
            "reports": [{"id": "r-1", "type": "soap", "content": {"plan": f"Rest. Join with {JWT} at noon."}}],
        },
    }
    case = Case("mediquo", "credentials", (body,))
    return case.normalizer()(case.envelope(body), InMemoryState())


def test_a_mapped_field_goes_without_its_credential() -> None:
    result = mapped(avatar="https://img.example.org/a.png?sig=abc")
    made = {output.key.partition("/")[0]: orjson.loads(output.value) for output in result.outputs}
    assert "photo" not in made["Practitioner"]
    assert f"Rest. Join with {REDACTED} at noon." in made["Composition"]["section"][0]["text"]["div"]
    assert not any(secret in output.value for output in result.outputs for secret in (JWT.encode(), b"sig=abc"))
    assert result.outcome is not None
    (issue,) = (
        issue
        for issue in result.outcome.resource["issue"]
        if issue["details"]["coding"][0]["code"] == "withheld-secret"
    )
    assert {*issue["expression"]} == {"/payload/professional/avatar", "/payload/reports/0/content"}


def test_a_plain_address_of_a_photo_is_mapped() -> None:
    made = [orjson.loads(output.value) for output in mapped(avatar="https://img.example.org/a.png").outputs]
    (practitioner,) = (resource for resource in made if resource["resourceType"] == "Practitioner")
    assert practitioner["photo"] == [{"url": "https://img.example.org/a.png"}]
