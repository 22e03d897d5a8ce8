"""Search long texts for credentials only near their hints, and overlook none (mapping.md §7)."""

import random
import unicodedata

import pytest

from fhirline.config.tables import secrets
from fhirline.mappers.pipeline.redaction.credential_forms import forms
from fhirline.mappers.pipeline.redaction.credentials import without_credentials
from fhirline.mappers.pipeline.redaction.search import Search, spans
from tests.support.redaction import SECRET

WEB_KEY = f'{{"n": "{"x" * 3_400}", "kty": "RSA", "e": "AQAB", "d": "{SECRET}"}}'
"""A JSON Web Key of 4,096 bits."""
CREDENTIALS = (
    f"Authorization: Bearer {SECRET}",
    f"Authorization: Digest username={SECRET}",
    f"Basic {'YWxhZGRpbjpvcGVuc2VzYW1l'}=",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    f"-----BEGIN PRIVATE KEY-----{'MIIEvQ' * 2_000}-----END PRIVATE KEY-----",
    "AKIAIOSFODNN7EXAMPLE",
    f"SG.{'a1' * 11}.{'b2' * 21}",
    f"sk-proj-{'a1' * 20}",
    f"npm_{'a1' * 20}",
    f"Set-Cookie: session={SECRET}; Path=/",
    WEB_KEY,
    f"SK{'0a' * 16}",
    f"user/pass: anna/{SECRET}",
    f"curl {'-H x ' * 30} -u anna:{SECRET}",
    f"mysql {'--skip ' * 20} -p{SECRET}",
    f"PuTTY-User-Key-File-3: {'Public-Lines ' * 900}Private-MAC: 0a1b",
    f"https://hooks.slack.com/services/{SECRET}",
    "OTP-482913",
    "482913 to log in",
    f"name,{'x' * 1_900},password\nanna,x,{SECRET}",
    f"| {'x |' * 15} password |\n|{'---|' * 16}\n| {'a |' * 15} {SECRET} |\n",
    f"password{'  for' * 2} (temporary): {SECRET}",
    "<password" + "".join(f" {name}='{'x' * 90}'" for name in "abcde") + f">{'x' * 150}{SECRET}",
    f"The password for the room of the clinic is {SECRET}",
    "confirmation code for the visit of tomorrow is 482913",
    "482913 is from now on your confirmation code",
    f"“{SECRET}” is my password.",
    f"密码是{SECRET}",
    "验证码：482913",
    f"{'u' * 60}:{SECRET}@db.example.org:5432/records",
    "ZXlKaGJHY2lPaUpJVXpJMU5pSjkuZXlKemRX",
)


def long_text(rng: random.Random, credential: str) -> str:
    """Return a text of some ten parts with a few credentials, of which many cross the end of a part."""
    names = [*secrets().withheld.passwords, "PIN", "access code", '{"kty', "|password|", "Cough: "]
    rest = [*names, " is ", ": ", "=", "\n", ",", "|", "“", "a1b2c3d4", "4711", " ", "ü", "😀"]
    prose = " ".join(rng.choices(("since", "Monday", "130/80,", "mg", "chest"), k=rng.choice((10, 500, 1_200))))
    text = [rng.choice((prose, credential))]
    for piece in (credential, *rng.choices((*CREDENTIALS, credential), k=4)):
        text += (rng.choice(("", "\n", " ", ". ")), *rng.choices(rest, k=rng.randrange(6)), piece)
        text.append(rng.choice(("\n", " ", ";", "a")) * rng.choice((1, 2, 40, 499, 500, 1_000, rng.randrange(7_000))))
    return "".join(text)


def test_the_same_is_found_as_in_the_whole_text() -> None:
    rng = random.Random(20_260)
    found = dict.fromkeys(forms(), 0)
    for credential in CREDENTIALS * 5:
        text = long_text(rng, credential)
        for form in forms():
            expected = [match.span() for match in form.pattern.finditer(text)]
            assert list(spans(text, form, None)) == expected, (credential, form)
            found[form] += len(expected)
    unseen = [form.pattern.pattern[:60] for form, number in found.items() if number < 2]
    assert not unseen, "each form is found in the samples"


def test_a_part_may_end_at_any_place_of_a_credential() -> None:
    """Parts end after each ``reach`` characters: within a hint, before it, and between it and its match."""
    for credential in CREDENTIALS:
        for form in forms():
            if not form.pattern.search(credential):
                continue
            for before in (*range(-20, 60), *range(60, form.reach, form.reach // 10)):
                text = f"{chr(10) * (form.reach - before)}{credential}{chr(10) * 4 * form.reach}"
                expected = [match.span() for match in form.pattern.finditer(text)]
                assert list(spans(text, form, None)) == expected, (credential, before)


SPELLINGS = {
    "capitals": str.upper,
    "marks apart": lambda text: unicodedata.normalize("NFD", text),
    "dotless i": lambda text: text.replace("i", "ı"),
    "dotted I": lambda text: text.replace("i", "İ"),
    "long s": lambda text: text.replace("s", "ſ"),
    "kelvin": lambda text: text.replace("k", "\u212a"),
    "separators": lambda text: text.replace(" ", "\x1c"),
    "wide spaces": lambda text: text.replace(" ", "\u2003"),
    "tabs": lambda text: text.replace(" ", "\t").replace(":", "\t  :"),
    "quotes": lambda text: text.replace("password", '"password"'),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_hint_is_found_in_each_spelling_that_its_pattern_takes(spelling: str) -> None:
    """A finder is Rust's: i, ı and İ are three letters there, and U+001C to U+001F no white space."""
    further = (
        "482913 to sign in",
        "a1b2c3d4 is my password.",
        "authorization: Basic abcdefg",
        "usuario/pass: anna/x1y2",
    )
    found = 0
    for credential in map(SPELLINGS[spelling], (*CREDENTIALS, *further, "https://discord.com/api/webhooks/1234567890")):
        text = f"{'Cough since Monday. ' * 900}{chr(10)}{credential}"
        for form in forms():
            expected = [match.span() for match in form.pattern.finditer(text)]
            assert list(spans(text, form, None)) == expected, credential
            found += len(expected)
    assert found > 5


@pytest.mark.parametrize(
    "before",
    ["https://hooks.slack.com/12345678", "curl -u anna:x1", "mysql -pX12345", "name,password\n", "password: 1a2b"],
)
def test_no_form_takes_only_the_beginning_of_a_web_key(before: str) -> None:
    made = without_credentials(f'{before}{{"kty":"oct","k":"{SECRET}"}}')
    assert SECRET not in made
    assert '"k"' not in made


def test_a_short_reach_would_overlook_credentials() -> None:
    """The test before can fail."""
    found: list[tuple[int, int]] = []
    overlooked: list[tuple[int, int]] = []
    for form in forms():
        found += spans(WEB_KEY, form, None)
        overlooked += spans(WEB_KEY, form._replace(reach=100), None)
    assert found == [(0, len(WEB_KEY))]
    assert overlooked == []


def test_a_long_note_with_a_few_names_is_hardly_searched() -> None:
    """A megabyte of prose with one mention of a password was searched as a whole for each of several forms."""
    spent: list[int] = []

    class Counted(Search):
        def spend(self, text: str, characters: int) -> None:
            super().spend(text, characters)
            spent.append(characters)

    prose = "The patient has had a cough since Monday. " * 12_000
    note = f"{prose}The password of the ward is on the board. {prose}Your access code is {SECRET}. {prose}"
    made = without_credentials(note, Counted())
    assert made == note.replace(f"access code is {SECRET}.", "[redacted]")
    assert 0 < sum(spent) < len(note) / 20


def test_signs_that_are_half_a_character_hide_nothing() -> None:
    """A finder cannot read them; the part is searched."""
    made = without_credentials(f"{'Cough. ' * 1_000}\ud800 password: {SECRET} {'Cough. ' * 1_000}")
    assert SECRET not in made
    assert made.startswith("Cough. Cough.")


@pytest.mark.parametrize("digit", ["1", "٣", "𝟏", "𑁦"])
@pytest.mark.parametrize("sign", ["x", "é", "あ", "😀", "x😀"])
def test_a_digit_is_found_behind_200_characters_of_a_word(sign: str, digit: str) -> None:
    """Characters from U+10000 on, among the digits as well, are looked up in another way."""
    before = sign * (200 // len(sign))
    assert without_credentials(f"Note. password: {before}{digit}") == "Note. [redacted]"
    assert without_credentials(f"Note. password: {before}") == f"Note. password: {before}"
    cut = f"Note. password: {before[:100]} {digit}{before[100:]}"
    assert without_credentials(cut).startswith(f"Note. password: {before[:100]} ")


def test_a_digit_far_behind_makes_no_word_a_credential() -> None:
    text = f"Note. password: {'x' * 201}1"
    assert without_credentials(text) == text
