"""Secrets in other letters or in quoted-printable are found, and clinical text which looks so is kept (§7)."""

import pytest

from fhirline.mappers.pipeline.redaction.credentials import without_credentials
from fhirline.mappers.pipeline.redaction.redact import REDACTED, redact


@pytest.mark.parametrize(
    "text",
    [
        "μg",
        "\u00b5g 400 x 3",
        "γGT 57 U/l",
        "βhCG negative",
        "IFNγ release assay",
        "ΔF508 homozygous",
        "Ωm",
        "α1-antitrypsin 1.2 g/l, κ/λ ratio, TNFα 40 pg/ml",
        "ibuprofeno 400 μg, ver https://example.org/leaflet?page=2",
        "Температура 38, pH 7,35, рH 7,4",
        "体温：38.5℃，血压：120/80",
    ],
)
def test_letters_of_two_scripts_are_kept(text: str) -> None:
    assert without_credentials(text) is text


def test_no_letter_beside_a_latin_one_changes_or_breaks_a_text() -> None:
    for letter in map(chr, range(0x370, 0x500)):
        for text in (f"{letter}g 400 mg", f"IFN{letter} positive", f"a{letter}b{letter} {letter}"):
            assert without_credentials(text) is text


@pytest.mark.parametrize(
    "text",
    [
        "passw\u043erd: hunter22",
        "\u0440\u0430ssw\u043erd: hunter22",
        "\u0440assword\uff1a hunter22",
        "pass\u200bword: hunter22",
        "пароль: hunter22",
        "па\u200bроль: hunter22",
    ],
)
def test_a_secret_is_found_beside_letters_of_two_scripts(text: str) -> None:
    assert without_credentials(text) == REDACTED
    assert "hunter22" not in without_credentials(f"Dose 400 μg, γGT 57. {text} IFNγ")


def test_what_is_found_undisguised_leaves_the_letters_of_the_text() -> None:
    text = "α1-antitrypsin 1.2 g/l. Password: hunter22"
    assert without_credentials(text) == f"α1-antitrypsin 1.2 g/l. {REDACTED}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://x.example/?id=3A7&secret=5528AB", f"https://x.example/?id=3A7&secret={REDACTED}"),
        ("IMC=22; secret=ABCDEF", f"IMC=22; secret={REDACTED}"),
        ("a=\nsecret=ABCDEF", f"a=\nsecret={REDACTED}"),
        (
            "Peso=\r\n70\r\npass_code=ABCDEF\r\nAlergias: penicilina",
            f"Peso=\r\n70\r\npass_code={REDACTED}\nAlergias: penicilina",
        ),
        (
            "IMC=22. Fiebre, ibuprofeno 400 mg. https://x.example/?pass_code=abcdef Alergia a penicilina.",
            f"IMC=22. Fiebre, ibuprofeno 400 mg. https://x.example/?pass_code={REDACTED} Alergia a penicilina.",
        ),
        ("IMC=22. Pass code: 5528XY, alergia a penicilina", f"IMC=22. Pass code: {REDACTED}, alergia a penicilina"),
        ("IMC=22. <pass_code>5528</pass_code> penicilina", f"IMC=22. <pass_code>{REDACTED}</pass_code> penicilina"),
        ("IMC=22\n[pass_code]\na=5528\n", f"IMC=22\n[pass_code]\na={REDACTED}\n"),
        ("IMC=22; secret=\nAlergia a penicilina", "IMC=22; secret=\nAlergia a penicilina"),
        ("pass_code=3D5528 noche", f"pass_code={REDACTED} noche"),
        ("IMC=22 =7B=22pass_code=22:=225528=22=7D", f"IMC=22 =7B=22pass_code={REDACTED}"),
        ("secret= 3Dhunter", f"secret= {REDACTED}"),
        ("secret=3D=22hunter", f"secret={REDACTED}"),
        ("secret=\r\nAlergia a penicilina", "secret=\r\nAlergia a penicilina"),
        ("pass_code=3A 5528 noche", f"pass_code={REDACTED} noche"),
        ("IMC=22, pass code at the desk", "IMC=22, pass code at the desk"),
    ],
)
def test_a_text_that_looks_like_quoted_printable_loses_the_secret_alone(text: str, shown: str) -> None:
    assert redact({"note": text}) == {"note": shown}
    assert redact({"note": shown}) == {"note": shown}


@pytest.mark.parametrize(
    "text",
    [
        "pass_code=3D 5528",
        "pass_code=3D55=\n28",
        "secret=3Dhunter=\r\nunter",
        "secret=\r\n=3Dhunter",
        "secret=\n=3Dhunter",
        "[pass_code]\na=3D55=\r\n28\n",
        "[pass_code]\na = YWJjZA==\nb",
        "<pass_code=\r\n>5528</pass_code=\r\n>",
        "pass_co=\nde=3D5528",
        "pass=5Fcode=3A 5528",
        "Pass code: 55=\n28",
        "IMC=22 =7B=22pass=5Fcode=22:=225528=22=7D",
        "<p>pass=5Fcode=3D5528</p>, charset=utf-8",
    ],
)
def test_a_text_in_quoted_printable_with_a_secret_is_redacted_whole(text: str) -> None:
    assert redact({"note": text}) == {"note": REDACTED}
