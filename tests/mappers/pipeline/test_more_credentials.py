"""Credentials in further languages and forms are withheld (mapping.md §7)."""

import pytest

from fhirline.mappers.pipeline.secret_keys import secret_key
from fhirline.mappers.pipeline.secret_values import without_credentials

SECRET = "Zx9-44721-qWeRtYu-8k"


@pytest.mark.parametrize(
    "text",
    [
        f"contrasenya: {SECRET}",
        f"parola d'ordine: {SECRET}",
        f"password è {SECRET}",
        f"hasło: {SECRET}",
        f"lösenord: {SECRET}",
        f"şifreniz: {SECRET}",
        f"비밀번호: {SECRET}",
        f"पासवर्ड: {SECRET}",
        f"סיסמה: {SECRET}",
        f"كلمه المرور {SECRET}",
        f"subscription-key: {SECRET}",
        f"credentials: admin:{SECRET}",
        f"<b>Password:</b> {SECRET}",
        f"password: |\n  {SECRET}",
        f'Authorization: Digest username="a", realm="b", response="{SECRET}"',
    ],
)
def test_a_credential_in_a_text_is_withheld(text: str) -> None:
    made = without_credentials(f"Note. {text}")
    assert SECRET not in made
    assert made.startswith("Note.")


@pytest.mark.parametrize("key", ["Ocp-Apim-Subscription-Key", "_csrf", "XSRF", "contrasenya"])
def test_a_key_of_a_credential_is_withheld(key: str) -> None:
    assert secret_key(key)


@pytest.mark.parametrize(
    "text",
    [
        "The doctor showed her credentials: MD, PhD",
        "password: |\n  ask the desk",
        "<b>Password:</b> written on the card",
        "Digest 20 ml after meals",
        "dose è 20 mg",
    ],
)
def test_words_of_records_are_no_credential(text: str) -> None:
    assert without_credentials(text) == text
