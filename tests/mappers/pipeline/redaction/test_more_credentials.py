"""Credentials in further languages and forms are withheld (mapping.md §7)."""

import pytest

from fhirline.mappers.pipeline.redaction.credentials import without_credentials
from fhirline.mappers.pipeline.redaction.keys import secret_key

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


@pytest.mark.parametrize(
    "text",
    [
        f"Password (temporary): {SECRET}",
        f"contraseña provisional: {SECRET}",
        f"Tu contraseña temporal es {SECRET}",
        f"su contraseña nueva: {SECRET}",
        f"senha provisória: {SECRET}",
        f"Sua nova senha (válida hoje): {SECRET}",
        f"mot de passe provisoire : {SECRET}",
        f"كلمة المرور المؤقتة: {SECRET}",
        f"pass-word: {SECRET}",
        f"passwort für das portal: {SECRET}",
        f"contrasenya nova: {SECRET}",
        "PIN #44721",
    ],
)
def test_a_credential_behind_a_remark_is_withheld(text: str) -> None:
    made = without_credentials(f"Note. {text}")
    assert SECRET not in made
    assert "44721" not in made
    assert made.startswith("Note.")


@pytest.mark.parametrize(
    "text",
    [
        "Password (temporary): ask the desk",
        "contraseña nueva desde el 2024-05-01",
        "PIN # of plates: 4",
        "Pin no longer hurts since 2019",
        "A new password was sent on 2024-05-01",
    ],
)
def test_a_remark_without_a_credential_stays(text: str) -> None:
    assert without_credentials(text) is text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("curl -u jane:hunter https://example.org", "hunter"),
        ("curl -s --user=jane:hunter https://example.org", "hunter"),
        ("mysql -ujane -pHunter22 records", "Hunter22"),
        ("mysqldump -h db -pHunter records", "Hunter"),
        ("OTP-445566", "445566"),
        ("Use 445566 to log in", "445566"),
        ("Use 445566 to sign in.", "445566"),
        ("Ingrese 445566 para iniciar sesión", "445566"),
    ],
)
def test_a_command_and_a_code_for_a_login_are_withheld(text: str, secret: str) -> None:
    assert secret not in without_credentials(f"Note. {text}")


@pytest.mark.parametrize(
    "text",
    [
        "Biceps curl -u 3 sets: 10 reps; mysql -port; OTP-2 weeks, OTP 3-4",
        "Use 2.5 ml to sign; walk 8000 steps to log in the diary; 2024-05-01 to log in",
        "palabra clave: dolor; punto clave: T2N0M0; la clave es descansar 8000 pasos",
        "PW: 11 mm, LVPW: 1200; p/w: 2 weeks; pass: 3000 ml; code: 445566; diagnosis code: 25000",
    ],
)
def test_words_like_those_of_a_login_stay(text: str) -> None:
    assert without_credentials(text) is text
