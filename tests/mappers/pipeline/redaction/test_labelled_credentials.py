"""Credentials beside their name in sentences, and of the form user:password@host; clinical text is kept (§7)."""

import pytest

from fhirline.mappers.pipeline.redaction.credentials import without_credentials
from fhirline.mappers.pipeline.redaction.redact import REDACTED, redact
from tests.support.redaction import assert_linear


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Your access code is 445566.", "445566"),
        ("The access code for the video room is 445566", "445566"),
        ("the password is hunter22", "hunter22"),
        ("The password to log in to the portal will be hunter22", "hunter22"),
        ("Password for the portal: hunter22", "hunter22"),
        ("PIN: 4711", "4711"),
        ("pin: 4711", "4711"),
        ("PIN 4711", "4711"),
        ("PIN code: 4711", "4711"),
        ("PIN number is 4711", "4711"),
        ("PIN for the portal: 4711", "4711"),
        ("OTP is 123456", "123456"),
        ("otp = 123 456", "123 456"),
        ("One-time code 445566", "445566"),
        ("Security code: 4455", "4455"),
        ("Your code is 445566", "445566"),
        ("G-445566 is your Google verification code", "445566"),
        ("4711 is the PIN", "4711"),
        ("pwd: hunter22", "hunter22"),
        ("API key is 9f8e7d6c", "9f8e7d6c"),
        ("El código de acceso es 445566", "445566"),
        ("El código de acceso para la sala de video es 445566", "445566"),
        ("Codigo de verificacion: 445566", "445566"),
        ("Su PIN es 4711", "4711"),
        ("Su NIP es 4711", "4711"),
        ("Su código es 445566", "445566"),
        ("La contraseña será hunter22", "hunter22"),
        ("La contrasen\u0303a es hunter22", "hunter22"),
        ("Su clave es 445566", "445566"),
        ("445566 es su código de verificación", "445566"),
        ("O código de verificação é 445566", "445566"),
        ("Seu código é 445566", "445566"),
        ("A senha do portal é hunter22", "hunter22"),
        ("Código de uso único: 445566", "445566"),
        ("445566 é o seu código de acesso", "445566"),
        ("رمز التحقق هو 445566", "445566"),
        ("رمز التحقق الخاص بك هو ٤٤٥٥٦٦", "٤٤٥٥٦٦"),
        ("رمز الامان: 445566", "445566"),
        ("كود الدخول 445566", "445566"),
        ("الرقم السري هو 4711", "4711"),
        ("رمزك هو 445566", "445566"),
        ("445566 هو رمز التحقق", "445566"),
        ("jane:hunter22@db.example.org", "hunter22"),
        ("postgres:hunter@10.0.0.4:5432/records", "hunter"),
        ("admin:letmein@db.internal", "letmein"),
        ("app:letmein@rabbit:5672/vhost", "letmein"),
        ("DSN=jane:p@ss22@db.example.org/records", "p@ss22"),
        ("root:p%40ss@localhost", "p%40ss"),
        ("jane%3Ahunter22%40db.example.org", "hunter22"),
    ],
)
def test_a_credential_beside_its_name_is_withheld(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in without_credentials(text)
    whole = without_credentials(f"Paciente estable, E11.9, 400 mg. {text} Control en 8 días.")
    assert secret not in whole
    if "%3A" not in text:
        assert whole.startswith("Paciente estable, E11.9, 400 mg. ")
        assert whole.endswith(" Control en 8 días.")


@pytest.mark.parametrize(
    "text",
    [
        "The code is E11.9, the ICD-10 code 4019; diagnosis code: 250.00",
        "El código es E11.9, dosis 500 mg; el código del medicamento es 445566",
        "O código CID é J45.9. Seu código é J45.9",
        "رمز التشخيص هو E11.9 والضغط 120/80، رقم الملف 445566، رمز المرض هو 4019",
        "Your code is E11.9. Your code status is full. Your pin site is 2 cm",
        "Pin site care 2019; K-wire pin: 2019 removal; pin: 1200 mm; pin = 4.5; PIN 2000 ml; PIN in hip: 2 screws",
        "OTP in 2 weeks, pin: 2024-05-01, pin: 12345678901",
        "Punto clave: T2N0M0; hallazgo clave: 2024-05-01; tu clave es dormir 8 horas",
        "The access code is on the card, and the password is written on it. Password for the portal: ask reception",
        "Secret of sleep is 8000 steps a day. Token economy is 12-week. El secreto es descansar 8000 pasos",
        "Access code is 2024-05-01; access code is 12.5 mg; verification: 445566 steps",
        "Security: code blue 2024. Referral code: 445566. Código de barras: 7501031311309. Código postal 28013",
        "1234 is the patient number; 2024 is your year; take 1000 IU of vitamin D; code: 4711",
        "email:john99@example.org, E-mail:jane.doe1@example.org, mailto:john99@example.org",
        "Correo:juan.perez85@clinica.example, correo electrónico:juan85@clinica.example",
        "البريد الإلكتروني:sara99@clinic.example",
        "Maria:maria1985@gmail.com, jane:doe@example.org, contact:jane2024@example.org",
        "sip:1001@pbx.example.org, xmpp:room1@chat.example.org",
        "Open at:10:30@clinic.example.org, BP:120/80@rest, ratio 1:2 @ 3.5, a:b@c, dose: 5mg@8am",
        "git@github.com:org/repo.git, img:1.2@sha256:9f86d081884c7d65, photo:img2024@2x.png",
        "UID:19970901T130000Z-123401@example.com",
    ],
)
def test_clinical_text_and_addresses_of_mail_are_kept(text: str) -> None:
    assert without_credentials(text) is text
    assert redact({"note": text}) == {"note": text}


def test_a_whole_credential_reads_as_absent() -> None:
    for text in ("PIN: 4711", "jane:hunter22@db.example.org", "access code is 445566", "رمز التحقق هو 445566"):
        assert without_credentials(text) == REDACTED


@pytest.mark.long
@pytest.mark.parametrize(
    "unit",
    [
        *("access code for a ", "password of a b c d ", "PIN ", "pin: ", "1234 is ", "445566 es su ", "your code "),
        *("a:b@", "a:b1@c.", "admin:", "a:1@a.a:", "password@a:1@", "123 456 is your ", "رمزك هو ", "PIN for a "),
        *("pass_code:\n  ", "pass_code:\n- a: b\n", "pass:\n", "pass:\n code: a\n", "pass_code: {", "- pass_code:\n"),
        *("password (", "password new (a) ", "pass - ", "pass code (a ", "pass   ", "PIN # ", "PIN (a) ", "api.value"),
        *("dispense:\n url: a\n", "pass_code: |\n", "pass_code: &a ", "pass_code\n- ", "pass code | ", "a:\n - - - "),
    ],
)
def test_a_long_text_is_looked_at_in_linear_time(unit: str) -> None:
    assert_linear(unit)
