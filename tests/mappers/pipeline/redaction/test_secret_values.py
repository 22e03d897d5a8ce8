"""Values that look like credentials are withheld from all that is made of an event; clinical text is kept."""

from typing import Any

import orjson
import pytest

from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized
from fhirline.mappers.pipeline.redaction.credentials import secret_value, without_credentials
from fhirline.mappers.pipeline.redaction.redact import REDACTED
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
        "password: hunter2",
        "Passwort: geheim77",
        "contraseña: abc123",
        "X-Api-Key: 9f8e7d6c",
        "refresh_token: 9f8e7d6c",
        "OTP: 123456",
        "Set-Cookie: sid=9f8e7d6c; Path=/",
        f"ghp_{'a1B2' * 9}",
        "AKIAIOSFODNN7EXAMPLE",
        f"sk_live_{'a1B2' * 5}",
        "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADAN\n-----END PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ==",
        *(f"{start}{'a1B2' * 10}" for start in ("xapp-", "sk_test_", "whsec_", "npm_", "ya29.", "shpat_")),
        "PHPSESSID=9f8e7d6c",
        "password hunter22",
        "Contraseña hunter22",
        "Código de acceso: 445566",
        "clave secreta: hunter22",
        "palavra-passe: hunter22",
        "code d'accès : 445566",
        "الرقم السري: 445566",
        "رمز التحقق: 445566",
        "verification code: 445566",
        "Authorization: Negotiate YIIabc123456789012",
        "bearer:SECRETTOKEN0123456789",
        "passw\u043erd: hunter22",
        *(
            f"{start}{'abcdefghij' * 4}"
            for start in ("sk_live_", "glpat-", "ghp_", "xoxb-", "AIza", "shpat_", "sk-ant-")
        ),
        f"SG.{'abcdefghij' * 2}.{'abcdefghij' * 4}",
        "كلمة المرور هي: Abc12345",
        "password is: Abc12345",
        "la contraseña es: Abc12345"[3:],
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: BCPG-1.0\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\nabc\n"
        "-----END RSA PRIVATE KEY-----",
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
        "Token: none. The key: 1 = mild, 2 = severe",
        "Pin: 2.0 mm K-wire; secretions: 50 ml/day; OTP in 2 weeks",
        "Cookies: 2 a day. Password for the portal: ask reception",
        "Pressure behind the access: code 2 of the ward, password-free room 12",
        "ASIA_impairment_scale_B, SG. 1.015; hf_with_reduced_ejection_fraction",
        "TNF\u03b1 40 pg/ml, \u03b22-agonist twice daily, \u0440H 7.35",
        "La contraseña se pide en recepción. Rest & fluids &#8212; 20 %",
        "Senha 2024-05-01 consulta; password 12.5 mg, password 10mg, passcode 3/12 weeks, senha 1000 ml",
        "npm_config_registry_of_the_whole_hospital_group, pypi-some-package-with-a-long-name",
        "SG.normal/ketones.negative/protein.negative",
        f"image {'A' * 20}/AIza{'a1B2' * 10}",
        f"/9j/4AAQ+AIza{'a1B2' * 10}",
        f"AIza{'a1+/' * 10}",
        "mi clave: 3 comidas; https://www.example.org/asthma?tab=2#key-facts",
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


def test_a_report_goes_without_what_is_below_a_key_of_a_secret() -> None:
    content = {
        "plan": {"note": "Rest", "portal": {"password": "HUNTER2"}, "session": "SESSION-0123456789"},
        "apiToken": "TOKEN-5528",
        "access": [{"name": "password", "value": "PW-5528"}],
        "signature": "Dr. Doe, cardiologist",
    }
    body = {
        "type": "patient_consultation_finished",
        "occurred_on": 1717243500,
        "payload": {
            "consultation": {"id": "c-1"},
            "patient": {"code": "p-1"},
            "professional": {"id": "d-1", "name": "Dr. Doe"},
            "reports": [{"id": "r-1", "type": "soap", "content": content}],
        },
    }
    case = Case("mediquo", "credentials", (body,))
    done = case.normalizer()(case.envelopes()[0], InMemoryState())
    made = b"".join(output.value for output in done.outputs)
    for secret in (b"HUNTER2", b"SESSION-0", b"TOKEN-5528", b"PW-5528"):
        assert secret not in made
    assert b"Rest" in made
    assert b"Dr. Doe, cardiologist" in made
    assert "withheld-secret" in {flag.code for flag in done.flags}


def test_an_address_with_many_parameters_is_read_in_linear_time() -> None:
    for unit in ("?a=1", "a=b&", '"secretary":', "password: ", "SG.", "cookie:a=", "token:", "bearer:a1", "Basic "):
        without_credentials(unit * (200_000 // len(unit)))
        secret_value(unit * (200_000 // len(unit)))


@pytest.mark.parametrize("key", [JWT, "https://jane:hunter2@example.org/a"])
def test_a_key_that_is_a_credential_is_in_no_output(key: str) -> None:
    """Beside a mapped field, below an unread one, and in a report whose keys become titles and text."""
    report = {"id": "r-1", "type": "note", "content": {key: "Rest.", "more": {key: "Drink."}}}
    body = {
        "type": "patient_consultation_finished",
        "occurred_on": 1717243500,
        "payload": {
            "consultation": {"id": "c-1", key: "x"},
            "patient": {"code": "p-1"},
            "reports": [report],
            "extra": {key: "first", f"{key}.": "second", "plain": "third"},
        },
    }
    case = Case("mediquo", "credentials", (body,))
    result = case.normalizer()(case.envelope(body), InMemoryState())
    made = {output.key.partition("/")[0]: output.value.decode() for output in result.outputs}
    assert all(text in made["Provenance"] for text in ("first", "second", "third"))
    assert "Rest." in made["Composition"]
    assert "Drink." in made["Composition"]
    assert result.outcome is not None
    written = [*made.values(), result.outcome.value.decode(), repr(result.flags), repr(result.schema_drift)]
    assert not [text for text in written if key in text]
