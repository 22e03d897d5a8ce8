"""Texts of many signs are read a bounded number of times, whatever they name (mapping.md §7)."""

import re
from base64 import b64encode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirline.mappers.pipeline.redaction import (
    blocks,
    credentials,
    embedded_formats,
    markup,
    plain_parts,
    search,
    texts,
)
from fhirline.mappers.pipeline.redaction.credentials import withhold, without_credentials
from fhirline.mappers.pipeline.redaction.html_references import without_references
from fhirline.mappers.pipeline.redaction.redact import REDACTED, redact
from fhirline.mappers.pipeline.redaction.search import Search
from fhirline.mappers.pipeline.redaction.values import Redaction
from tests.support.redaction import SECRET, both_ways


def calls(module: Any, name: str, monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    """Redact a text, and return how often a function of a module was called."""
    found = 0
    plain = getattr(module, name)

    def counted(*given: Any) -> Any:
        nonlocal found
        found += 1
        return plain(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, counted)
        redact({"note": text})
        without_credentials(text)
    return found


@pytest.mark.parametrize("unit", ["pass=5Fcode=3D1 ", "a=3Db ", "pass=\ncode=3D12345 "])
def test_quoted_printable_is_decoded_as_often_in_a_long_text(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = (
        calls(embedded_formats, "_without_quoted_printable", monkeypatch, unit * number) for number in (20, 2_000)
    )
    assert 0 < long <= short


def test_an_address_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (10, 1_000):
        text = " ".join(f"https://example.org/a?page={at}&q=b%20c" for at in range(number))
        assert 0 < calls(credentials, "_signed", monkeypatch, text) <= number


def test_behind_many_pairs_a_text_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_formats, "_MOST_PAIRS", 10)
    pairs = [f"pass_code={SECRET}{number}" for number in range(30)]
    made = redact({"note": "&".join([*pairs, "dose=2"])})["note"]
    assert SECRET not in made
    assert made.startswith(f"pass_code={REDACTED}&pass_code={REDACTED}")
    assert made.count(REDACTED) < 20
    assert "dose=2" not in made
    assert redact({"note": "&".join(pairs[:5]) + "&dose=2"})["note"].endswith("&dose=2")


def test_behind_many_tags_a_text_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "_MOST_TAGS", 30)
    for part in ("<p>dose {}</p>", "<consultation><p>dose {}</p></consultation>"):
        text = "".join([*(part.format(number) for number in range(60)), f"<pass_code>{SECRET}</pass_code>"])
        made = redact({"note": text})["note"]
        assert made.endswith(REDACTED)
        assert SECRET not in made
        assert "dose 9<" in made
        assert "dose 31<" not in made
        assert redact({"note": made})["note"] == made


@given(st.text('"\\/\b\f\n\r\tnrtbfu0\x01\x7fa', max_size=30))
def test_escaped_signs_are_dropped_as_one_by_one(text: str) -> None:
    data = orjson.dumps([text, text])
    plain, one_by_one = plain_parts._without_escapes(data), re.sub(rb'\\["nrtbf]', b"", data)
    assert (b"\\" in plain) == (b"\\" in one_by_one)
    assert b"\\" in plain or plain == one_by_one


@pytest.mark.parametrize("reference", ["&#{};", "&#{}", "&#x{};", "&#X{};"])
def test_a_reference_of_many_digits_is_read(reference: str) -> None:
    long = reference.format("1" * 9_000)
    for text in (long, f"pass_code {long} ", f"%26{long[1:]}", f"<pass_code>{SECRET}{long}</pass_code>"):
        made = redact({"note": text})["note"]
        assert SECRET not in made
        assert without_credentials(text)
    assert without_references(f"a{long}") == "a\ufffd"


def test_blank_lines_below_a_name_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for blank in ("\n", " \n", "\r\n"):
        text = f"pass_code:\n{blank * 2_000}  - {SECRET}\ndose: 2"
        lines = calls(blocks._Level, "hides", monkeypatch, text)  # once for each line
        assert 0 < lines < 20
        assert redact({"note": text})["note"] == f"pass_code:\n{blank * 2_000}  - {REDACTED}\ndose: 2"


def test_behind_many_lines_below_names_a_text_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_MOST_LINES", 30)
    text = f"pass_code: {SECRET}\n" + "".join(f"- dose: {number} mg\n" for number in range(60))
    made = redact({"note": text})["note"]
    assert SECRET not in made
    assert made.endswith(REDACTED)
    assert "dose: 9 mg" in made
    assert "dose: 31 mg" not in made
    assert redact({"note": made})["note"] == made


def test_lists_of_one_in_each_other_are_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cost a look of its own at keys, names and neighbours: 1.8 million in a body of 4 MB."""
    looked_at = 0
    plain = Redaction._redacted_list

    def counted(self: Redaction, *given: Any) -> Any:
        nonlocal looked_at
        looked_at += 1
        return plain(self, *given)

    names = [f"pass_code {number}" for number in range(40)]
    chains: list[Any] = names
    for _ in range(60):
        chains = [[chain] for chain in chains]
    with monkeypatch.context() as patch:
        patch.setattr(Redaction, "_redacted_list", counted)
        made = redact({"a": chains})
    assert made == {"a": chains}
    assert 0 < looked_at <= 3 * len(names)


def test_a_secret_below_many_lists_is_redacted() -> None:
    for before, behind in (([], []), ([], [1]), ([1], [])):
        secret: Any = {"pass_code": SECRET}
        expected: Any = {"pass_code": REDACTED}
        for _ in range(60):
            secret, expected = [*before, secret, *behind], [*before, expected, *behind]
        assert both_ways({"a": secret}) == {"a": expected}


def test_credentials_are_searched_in_so_many_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind them a text that may have one is withheld. Long texts leave the short ones their share."""
    monkeypatch.setattr(search, "MOST", ((100, 2_000), (float("inf"), 20_000)))
    long = "Your confirmation code (to log in), your password of a day: see above. " * 20
    note = "The password of the ward is on the board"
    body = {"chat": [long] * 200, "plain": "Cough. " * 2_000, "note": note, "key": f"password: {SECRET}"}
    made, withheld = withhold(body)
    assert made["chat"][0] == long
    assert made["chat"][100:] == [REDACTED] * 100
    assert (made["plain"], made["note"]) == (body["plain"], note)
    assert made["key"] == REDACTED
    assert withheld == ()
    many, _ = withhold({"chat": [note] * 200, "history": long})
    assert many["chat"][0] == note
    assert many["chat"][-1] == REDACTED
    assert many["history"] == long


def test_a_text_counts_once_for_each_form_that_may_be_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    monkeypatch.setattr(Search, "spend", lambda _, text, characters: searched.append((len(text), characters)))
    for number in (10, 1_000):
        searched.clear()
        withhold({"note": "Cough and a token of thanks. " * number, "plain": "Cough. " * number})
        assert 0 < len(searched) <= 3
        assert {*searched} == {(29 * number, 29 * number)}


def test_so_many_encoded_words_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_MOST_ENCODED", 5)
    named = b64encode(b"the pass_code is not sent").decode()
    secret = b64encode(f"pass_code: {SECRET}".encode()).decode()
    made = redact(
        {"notes": [f"{at} {named}. {named}" for at in range(4)], "plain": b64encode(b"Cough since two days").decode()}
    )
    assert made["notes"][:2] == [f"{at} {named}. {named}" for at in range(2)]
    assert made["notes"][3] == f"3 {REDACTED}. {REDACTED}"
    assert redact({"note": f"a {secret}."})["note"] == f"a {REDACTED}."


SEVERAL_ENCODINGS = "\\u0022=3D codeЖpass_codeotp=3D =3D  %3D =3Dcode\\u0022='s3D = \uff41]]=("
"""Signs of quoted-printable, percent encoding and escapes, in each of which the text is read again."""


def test_texts_in_several_encodings_are_read_in_so_many_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit 4 MB of them took 32 processor seconds."""
    text = SEVERAL_ENCODINGS * 40
    read = []
    for number, most in ((2, 10**9), (20, 10**9), (20, 5 * len(text))):
        monkeypatch.setattr(texts, "_MOST_CHARACTERS", most)
        redaction = Redaction()
        redaction.redacted([f"{at}{text}" for at in range(number)], frozenset(), embedded_formats.ROOM)
        read.append(redaction._characters / len(text))
    few, many, limited = read
    assert many > 5 * few > 20, "each text is read more than once"
    assert limited < 10


def test_behind_so_many_characters_a_text_that_may_name_a_secret_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_MOST_CHARACTERS", 100)
    notes = [f"pass_code={SECRET}&dose={number}" for number in range(20)]
    made = redact({"notes": notes, "plain": "dose=2&unit=mg", "sign": "Cough & fever"})
    assert made["notes"][0] == f"pass_code={REDACTED}&dose=0"
    assert made["notes"][-1] == REDACTED
    assert (made["plain"], made["sign"]) == ("dose=2&unit=mg", "Cough & fever")
    assert SECRET not in str(made)
