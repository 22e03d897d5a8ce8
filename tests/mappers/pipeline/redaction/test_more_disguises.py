r"""Secrets beside a name in members, texts and letters that earlier tests do not have (mapping.md §7)."""

from typing import Any

import pytest

from tests.support.redaction import SECRET, both_ways


@pytest.mark.parametrize(
    "body",
    [
        {"op": "replace", "path": "/pass_code", "value": SECRET},
        [{"op": "add", "path": "/data/dispense/url", "value": f"https://x.example/{SECRET}"}],
        {"field": "pass_code", "oldValue": "a", "newValue": SECRET},
        {"field": "pass_code", "from": SECRET, "to": "b"},
        {"column": "pass_code", "cell": SECRET},
        {"columnName": "pass_code", "columnValue": SECRET},
        {"variable": "passCode", "value": SECRET},
        {"arg": "--pass-code", "value": SECRET},
        {"kind": "pass_code", "val": SECRET},
        {"term": "Pass code", "definition": SECRET},
        {"name": "pass_code", "result": SECRET},
        {"question": "What is the pass code?", "answer": SECRET},
        {"prompt": "Pass code", "response": SECRET},
        {"x-webhook-secret": SECRET},
        {"rawHeaders": ["Host", "a", "X-Webhook-Secret", SECRET]},
        {"webhookSecretValue": SECRET},
        {"%2570ass_code": SECRET},
        {"\\u0070ass_code": SECRET},
        {"user%50assCodeValue": SECRET},
        {"&amp;#112;ass_code": SECRET},
        {"\u1d18\u1d00ss_\u1d04\u1d0f\u1d05\u1d07": SECRET},
    ],
)
def test_a_secret_beside_its_name_is_redacted(body: Any) -> None:
    assert SECRET not in str(both_ways(body))


@pytest.mark.parametrize(
    "text",
    [
        f"pass code \u21d2 {SECRET}",
        f"pass code \u2794 {SECRET}",
        f"pass code \U0001f449 {SECRET}",
        f"pass code ..... {SECRET}",
        f"pass code ______ {SECRET}",
        f"pass code no. {SECRET}",
        f"QR code number {SECRET}",
        f"Su c\u00f3digo (qr code): {SECRET}",
        f"\u201cpass code\u201d: {SECRET}",
        f"<b>Pass code</b>: <i>{SECRET}</i>",
        f'array(1) {{\n  ["pass_code"]=>\n  string(17) "{SECRET}"\n}}',
        f'array(1) {{\n  ["pass_code"]=>\n  int({SECRET})\n}}',
    ],
)
def test_a_secret_behind_its_name_in_a_text_is_redacted(text: str) -> None:
    assert SECRET not in str(both_ways({"note": text}))


@pytest.mark.parametrize(
    "body",
    [
        {"field": "status", "from": "new", "to": "closed"},
        {"path": "/data/drug/0", "value": "Ibuprofen 400"},
        {"question": "Do you have a fever?", "answer": "39.5 since 2024-05-01"},
        {"question": "doctor_notes", "answer": "Dispense 20 tablets"},
        {"term": "dispense", "definition": "to hand out 20 tablets"},
        {"name": "QR interval", "result": "120 ms"},
        {"note": "QR code number 5 of 10"},
        {"note": "The pass code number is on the card"},
        {"note": "See the QR code ... it is below"},
        {"note": "<b>Dispense</b>: <i>20 tablets</i>"},
        {"note": "QR code (E11.9) for COVID-19"},
    ],
)
def test_words_of_records_stay(body: Any) -> None:
    assert both_ways(body) == body


@pytest.mark.parametrize(
    "text",
    [
        f"pass - code: {SECRET}",
        f"QR \u2013 code: {SECRET}",
        f"pass  code: {SECRET}",
        f"pass / code: {SECRET}",
        f"pass\u00b7code: {SECRET}",
        f"pass code.: {SECRET}",
        f"Note: data.pass code.value: {SECRET}",
        f"Note: pass_code.0.value = {SECRET}",
        f"Pass code (4 digits): {SECRET}",
        f"passcode#{SECRET}",
        f"passcode?{SECRET}",
        f"pass code<br>{SECRET}",
        f"pass code -- {SECRET}",
        f"pass code >> {SECRET}",
        f"pass code \u00bb {SECRET}",
    ],
)
def test_a_secret_behind_its_name_as_people_write_it_is_redacted(text: str) -> None:
    assert SECRET not in str(both_ways({"note": text}))


@pytest.mark.parametrize(
    "text",
    [
        "Show the QR. Code E11.9 is documented",
        "QR - code: see the desk",
        "Pass code (ask at the desk): none",
        "QR code -- 2024-05-01",
        "QR code? 20 mg twice",
        "open / tele room 12",
    ],
)
def test_words_beside_a_name_stay(text: str) -> None:
    assert both_ways({"note": text}) == {"note": text}
