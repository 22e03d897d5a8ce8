"""Credentials before their name, in tables, keys and addresses, and in scripts without white space (mapping.md §7)."""

import re

import pytest

from fhirline.mappers.pipeline.redaction.credential_forms import form_hints
from fhirline.mappers.pipeline.redaction.credentials import withhold, without_credentials
from fhirline.mappers.pipeline.redaction.redact import REDACTED
from tests.support.redaction import assert_linear

WEB_KEY = '{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qz"}'


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Note. hunter22 is my password", "hunter22"),
        ("Note. hunter22 es mi nueva contraseña para el portal", "hunter22"),
        ("Note. hunter22 é a sua senha.", "hunter22"),
        ("user,password\nadmin,hunter", "hunter"),
        ("host;Contraseña;port\r\ndb;hunter;1", "hunter"),
        ("password\tuser\nhunter\tadmin", "hunter"),
        ("Note.\n| user | password |\n|---|---|\n| admin | hunter |\n| bob | hunter |\nBye", "hunter"),
        ("Note. user/pass: admin/hunter", "hunter"),
        ("Note. Login / Password = admin / hunter", "hunter"),
        (f"Note. {WEB_KEY}", "AyM1SysPpbyDfgZld3umj1qz"),
        ("PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\nQUJD\nPrivate-MAC: 00ff\nBye", "QUJD"),
        ("Note. SK" + "0a" * 16, "SK0a"),
        ("Note. https://hooks.slack.com/services/T0000/B0000/XXXXXXXX now", "B0000"),
        ("Note. https://discord.com/api/webhooks/100000/abcdefgh", "abcdefgh"),
        ("Note. https://clinic.webhook.office.com/webhookb2/abcdefgh", "abcdefgh"),
        ("密码是hunter22。请保存", "hunter22"),
        ("您的验证码为445566，请勿泄露", "445566"),
        ("パスワードはhunter22です", "hunter22"),
        ("認証コード：445566", "445566"),
    ],
)
def test_a_credential_is_withheld(text: str, secret: str) -> None:
    made = without_credentials(text)
    assert secret not in made
    assert REDACTED in made
    assert made.startswith("Note.") or not text.startswith("Note.")


@pytest.mark.parametrize(
    "text",
    [
        "HbA1c is the password of our clinic",
        "COVID-19 is what the password policy names; 2024-05-01 is the password day",
        "The patient forgot his password, 3 tablets left\nDose: 5 ml, twice",
        "password, login and portal were explained\nE11.9",
        "| drug | dose |\n|---|---|\n| Ibuprofen | 400 mg |",
        "date,dose,unit\n2024-05-01,400,mg",
        "密码学2024年, 验证码 12 mg, 診察 2024年",
        "SKELETAL survey 0a0a, SK12",
        "https://hooks.example.org/services/leaflet and https://slack.com/help/articles/1",
        "user/pass rates: 4/5; pass/fail: 3/4",
    ],
)
def test_clinical_text_is_kept(text: str) -> None:
    assert without_credentials(text) is text


def test_no_hint_is_slow() -> None:
    """Look for counted repetitions without a prefix, and for ``.*``: a search is in many of their states at once."""
    slow = re.compile(r"(?:^|\||\()(?:\[[^\]]*\]|\\?.)\{\d*,?\d{2,}\}|(?<!\\)\.[*+]|(?<!\\)\.\{")
    hints = form_hints()
    assert len(hints) > 20
    assert [hint for hint in hints if slow.search(hint)] == []


def test_the_private_members_of_a_web_key_are_withheld() -> None:
    key = {"kty": "RSA", "n": "public", "e": "AQAB", "d": "private", "p": "private"}
    made, _ = withhold({"keys": [key]})
    assert made == {"keys": [{**key, "d": REDACTED, "p": REDACTED}]}


@pytest.mark.long
@pytest.mark.parametrize(
    "unit",
    [
        *("hunter2 is my ", "1a is the new password x", "user,password", "| password ", "user/pass: a", '{"kty":"k":'),
        *("PuTTY-User-Key-File-2 ", "密码是", "验证码1", "https://hooks.slack.com/", "password,\n"),
    ],
)
def test_a_long_text_is_looked_at_in_linear_time(unit: str) -> None:
    assert_linear(unit)
