"""Letters of several scripts in one word: clinical text keeps them, and no secret hides behind them (mapping.md §7)."""

import pytest

from fhirline.mappers.pipeline.redaction import REDACTED
from fhirline.mappers.pipeline.secret_values import without_credentials


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
