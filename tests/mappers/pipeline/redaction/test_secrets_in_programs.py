"""Secrets in texts that programs write, in other letters and other encodings, are redacted (mapping.md §7)."""

import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest

from fhirline.mappers.pipeline.redaction.redact import redact
from tests.support.redaction import SECRET, assert_linear, both_ways

JSON = json.dumps({"dispense": {"any": SECRET, "pass_code": SECRET}})
INPUT = f'<input name="pass_code" value="{SECRET}">'


def base64(text: str, encoding: str = "utf-8") -> str:
    return b64encode(text.encode(encoding)).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"ｐａｓｓ＿ｃｏｄｅ：{SECRET}",
        f"\u0440\u0430ss_\u0441\u043ed\u0435: {SECRET}",
        f"pass\u200b_code: {SECRET}",
        f"pass\u202ecode: {SECRET}",
        f"\U0001d429\U0001d41a\U0001d42c\U0001d42c_\U0001d41c\U0001d428\U0001d41d\U0001d41e: {SECRET}",
        f"ⓟⓐⓢⓢ code: {SECRET}",
        f"curl -H 'x-webhook-infermedica-token: {SECRET}' https://example.org",
        f"open_tele_room: {SECRET}",
        f"Dispense{{passCode={SECRET}, url=https://example.org/{SECRET}}}",
        f"ChatConfig(size=2, token={SECRET})",
        f"Array\n(\n  [dispense] => Array\n    (\n      [url] => https://example.org/{SECRET}\n    )\n)",
        f"stdClass Object\n(\n  [chatConfig] => stdClass Object\n    (\n      [token] => {SECRET}\n    )\n)",
        f"INSERT INTO d (id, pass_code) VALUES (1, '{SECRET}')",
        f"insert into d(`id`,`pass_code`)\nvalues (1, '{SECRET}'), (2, '{SECRET}')",
        f"X-PASSCODE;VALUE=TEXT:{SECRET}",
        f"OBX|1|ST|pass_code||{SECRET}",
        f'<extension url="https://example.org/pass_code"><valueString value="{SECRET}"/></extension>',
        f"\\passcode{{{SECRET}}}",
        f"[pass code](https://example.org/{SECRET})",
        *(f"pass code {sign} {SECRET}" for sign in ("–", "—", "-", ";", "==", "@", "~")),
    ],
)
def test_a_secret_in_the_text_of_a_program_goes(text: str) -> None:
    assert SECRET not in json.dumps(both_ways({"note": text}), ensure_ascii=False)


@pytest.mark.parametrize(
    "text",
    [
        base64(base64(base64(JSON))),
        base64(JSON, "utf-16-le"),
        base64(JSON, "utf-16"),
        base64("\ufeff" + JSON),
        urlsafe_b64encode(JSON.encode()).decode().rstrip("="),
        f"data:application/json;base64,{base64(JSON)}",
        f"data:text/html;base64,{base64(INPUT)}",
        quote(quote(JSON)),
        quote(quote(f"pass code: {SECRET}", safe=""), safe=""),
        "".join(f"\\u{ord(sign):04x}" for sign in JSON),
        "".join(f"\\x{ord(sign):02x}" for sign in JSON),
        "".join(f"\\u{ord(sign):04x}" for sign in f"pass code: {SECRET}"),
        "".join(f"&#{ord(sign)};" for sign in f"pass code: {SECRET}"),
    ],
    ids=lambda text: text[:30],
)
def test_a_secret_that_is_encoded_goes(text: str) -> None:
    made = both_ways({"note": f"see {text}"})["note"]
    assert text not in made


@pytest.mark.parametrize(
    "text",
    [
        "QR code – 2 copies; 3 pages",
        "QR code - 2024-05-01 - 400 mg",
        "Pass code (at the desk, 12 minutes)",
        "Dispense (ibuprofen, code: M01AE01) 20 tablets",
        "Consultation(s): 12 in 2024, url none",
        "C:\\users\\xray\\2024 dose \\u00e9t\\u00e9 400 mg",
        "INSERT INTO d (id, dose) VALUES (1, '400 mg')",
        '<a href="https://example.org/pass_code">12 pages</a>',
        "Dosis：400 mg\u200f, βhCG ⓐ 12 \U0001d6c3-blocker",
        base64("Ordinary text of a record, with 400 mg."),
        base64(json.dumps({"dose": "400 mg", "code": "E11.9"}), "utf-16-le"),
    ],
    ids=lambda text: text[:30],
)
def test_a_text_without_a_secret_keeps_every_byte(text: str) -> None:
    assert both_ways({"note": text}) == {"note": text}


@pytest.mark.parametrize(
    "unit",
    [
        "pass_code => Array ",
        "chatConfig(",
        "into d (",
        "\\u0070\\x61",
        "pass code ; ",
        "\U0001d429\u200b ",
        "\u0430a",
    ],
)
def test_a_long_text_takes_time_by_its_length(unit: str) -> None:
    assert_linear(unit)


def test_a_body_keeps_its_identity_where_nothing_is_found() -> None:
    body = {"note": "ｄｏｓｅ：４００ mg \\u0041", "items": [["a", "b"]]}
    assert redact(body) is body
