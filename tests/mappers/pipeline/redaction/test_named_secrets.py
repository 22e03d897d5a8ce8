"""Secrets whose name stands beside them: in lists, tables, markup, texts, or in a key (mapping.md §7)."""

import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest

from fhirline.mappers.pipeline.redaction.credentials import has_credential, withhold
from fhirline.mappers.pipeline.redaction.markup import markup_redacted
from fhirline.mappers.pipeline.redaction.redact import REDACTED, _source_finder, redact
from tests.support.redaction import SECRET, assert_linear, both_ways

TOKEN = "abcdef0123456789XYZ"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
JSON = json.dumps({"pass_code": SECRET, "dose": 2})


@pytest.mark.parametrize(
    "body",
    [
        {"rawHeaders": ["Host", "example.org", "pass_code", SECRET, "Accept", "text/html"]},
        {"rawHeaders": ["Host", "example.org", "organization-code", SECRET]},
        {"fields": [["pass_code", "string", SECRET]]},
        {"fields": [["n", "1"], ["Pass code", {"deep": [SECRET]}]]},
        {"columns": ["id", "pass_code"], "rows": [[1, SECRET], [2, SECRET]]},
        {"keys": ["pass_code", "dose"], "values": [SECRET, 2]},
        {"type": "pass_code", "value": SECRET},
        {"extension": [{"url": "pass_code", "valueString": SECRET}]},
        {"fieldName": "pass_code", "fieldValue": SECRET},
        {"field_name": "pass_code", "field_value": [SECRET]},
        {"NAME": "PASS_CODE", "VALUE": SECRET},
        {"header": "x-webhook-signature", "value": SECRET},
        {JSON: 1},
        {f"a {JSON}": {"inner": 1}},
        {urlencode({"pass_code": SECRET}): 1},
        {quote(JSON): 1},
        {"note": f"<r><pass_code>{SECRET}</pass_code></r>"},
        {"note": f"<rx:pass_code xsi:type='a'><![CDATA[{SECRET}]]></rx:pass_code>"},
        {"note": f"<dispense><url>{SECRET}</url><x y='{SECRET}'/></dispense>"},
        {"note": f"<consultation id='1'><url>{SECRET}</url></consultation>"},
        {"note": f'<entry key="pass_code" value="{SECRET}"/>'},
        {"note": f"<i><name>pass_code</name> <value>{SECRET}</value></i>"},
        {"note": f"<pass_code>{SECRET}"},
        {"note": f"&lt;pass_code&gt;{SECRET}&lt;/pass_code&gt;"},
        {"note": f"id,pass_code,dose\n7,{SECRET},2"},
        {"note": f'Content-Disposition: form-data; name="pass_code"\r\n\r\n{SECRET}\r\n--'},
        {"note": f"Your pass code is {SECRET}."},
        {"note": f"El pass code es {SECRET}"},
        {"note": f"pass_code：{SECRET}"},
        {"note": f"Pass code {SECRET}"},
        {"note": f"Pass code\n{SECRET}"},
        {"note": f"**Pass code:** {SECRET}"},
        {"note": f"Pass code: *{SECRET}*"},
        {"note": f"<b>Pass code:</b> {SECRET}"},
        {"note": f"- name: pass_code\n  value: {SECRET}\n"},
        {"note": f'{{:pass_code "{SECRET}"}}'},
        {"note": f"(pass_code . {SECRET})"},
        {"note": f"https://example.org/pass_code/{SECRET}/open"},
        {"note": f"[pass_code]\ncode={SECRET}\r\n"},
        {"note": f'[[dispense_url]]\nat = "{SECRET}"\n[other]\ndose=2'},
        {"note": f"pass_code=3D {SECRET}"},
        {"note": f"pass=5Fcode=3A {SECRET}"},
        {"note": f'=7B"pass_code"=3A"{SECRET}"=7D'},
    ],
    ids=lambda body: next(iter(body))[:12],
)
def test_a_value_beside_the_name_of_a_secret_goes(body: Any) -> None:
    assert SECRET not in json.dumps(both_ways(body), ensure_ascii=False)


@pytest.mark.parametrize(
    "inner", [f"<r><pass_code>{SECRET}</pass_code></r>", f"\n {JSON}", f"<R><Pass_Code>{SECRET}</Pass_Code></R>"]
)
def test_markup_and_padded_json_in_base64(inner: str) -> None:
    encoded = b64encode(inner.encode()).decode()
    assert both_ways({"file": f"see {encoded}"}) == {"file": f"see {REDACTED}"}
    assert both_ways({encoded: 1}) == {REDACTED: 1}


@pytest.mark.parametrize("inner", [f"pass_code: {SECRET}", f"a=1&passCode={SECRET}", f"Pass Code: {SECRET}", JSON])
@pytest.mark.parametrize("before", ["", "x", "xy"])
def test_a_named_secret_in_base64_or_hex(inner: str, before: str) -> None:
    text = f"{before} {inner}".encode()
    for encoded in (b64encode(text).decode(), text.hex(), text.hex().upper()):
        assert both_ways({"file": f"see {encoded}"}) == {"file": f"see {REDACTED}"}


def test_an_encoded_document_that_only_names_a_secret_stays() -> None:
    encoded = b64encode(b"Ask for the pass code at the desk. Scan the QR code 15 minutes before.").decode()
    assert both_ways({"file": encoded}) == {"file": encoded}


def test_a_key_alone_asks_for_no_look_into_texts() -> None:
    """The source decides whether texts are looked at: a name that is a key does not, one that is a text does."""
    key, value = (_source_finder()(orjson.dumps(body)) for body in ({"pass_code": "a"}, {"a": ["pass_code"]}))
    assert not key
    assert value


@pytest.mark.parametrize(
    "body",
    [
        {"names": ["pass_code", "dose", "route"]},
        {"names": ["dispense", "20 tablets, 500 mg", "twice a day"]},
        {"columns": ["drug", "dose"], "rows": [["Ibuprofen", "400 mg"]]},
        {"type": "dispense", "value": "20 tablets"},
        {"url": "https://example.org/extension/dose", "valueString": "400 mg"},
        {"note": "<p>Dispense: 20 tablets</p><p>Ask for the pass code at the desk.</p>"},
        {"note": "<table><tr><td>dispense</td><td>20 tablets</td></tr></table>"},
        {"note": "Advice\n1, rest, drink 2000 ml\n2, pass code at the pharmacy"},
        {"note": "Scan the QR code 15 minutes before. The pass code documentation is at reception."},
        {"note": "[advice]\nrest=2 days\n[dispense]\nTake 20 tablets: 500 mg"},
        {"note": "[Dispense]\nibuprofen = 400 mg 3x\namoxicillin=500mg"},
        {"note": "[Pass code]\nibuprofen = 400 mg 3x"},
        {"note": "dose=3D\u0020or 20=25 drops; QR code/leaflet"},
        {"note": "QR code 2024-05-01 scanned, no qr code 10mg, qr code (12/05/2024), api key 1000 ml"},
        {"a=b & c": 1, "50%": 2, '"quoted"': 3},
    ],
    ids=lambda body: next(iter(body))[:12],
)
def test_words_of_a_record_stay(body: Any) -> None:
    assert both_ways(body) is body or both_ways(body) == body


def test_keys_that_go_stay_apart() -> None:
    body = {JSON: 1, f"{JSON} ": 2, "dose": 3}
    assert both_ways(body) == {REDACTED: REDACTED, f"{REDACTED} 2": REDACTED, "dose": 3}


def test_many_nested_parents_of_a_secret_are_read() -> None:
    text = "<consultation><chatConfig></a>" * 3_000
    assert redact({"note": f"{text}<url>{SECRET}</url>"}) == {"note": f"{text}<url>{REDACTED}</url>"}


def test_what_has_no_end_goes_to_the_end() -> None:
    assert markup_redacted(f"<a><dispense>{SECRET} <b>{SECRET}", frozenset()) == f"<a><dispense>{REDACTED}"


@pytest.mark.parametrize(
    "body",
    [
        {"headers": [["authorization", TOKEN]]},
        {"headers": [["Cookie", f"sid={TOKEN}; theme=dark"]]},
        {"headers": [["X-Auth-Token", TOKEN], ["Accept", "text/html"]]},
        {"rawHeaders": ["Host", "example.org", "Authorization", TOKEN]},
        {"rawHeaders": ["X-Api-Key", TOKEN, "Host", "example.org"]},
        {"headers": [{"NAME": "Authorization", "VALUE": TOKEN}]},
        {"login": [{"fieldName": "password", "fieldValue": TOKEN}]},
        {"columns": ["user", "password"], "rows": [["jane", TOKEN]]},
        {JWT: "note"},
    ],
    ids=lambda body: next(iter(body))[:12],
)
def test_a_named_credential_is_withheld(body: Any) -> None:
    kept = json.dumps(withhold(both_ways(body))[0])
    assert TOKEN not in kept
    assert JWT not in kept


@pytest.mark.parametrize(
    "text",
    [
        f"<password>{TOKEN}</password>",
        f'<wsse:Password Type="text">{TOKEN}</wsse:Password>',
        f'<add key="password" value="{TOKEN}"/>',
        f"password => {TOKEN}",
        f"password：{TOKEN}",
        f"The password is {TOKEN}",
        f"La contraseña es {TOKEN}",
        f"A senha é {TOKEN}",
        f"Das Passwort lautet {TOKEN}",
        f"كلمة المرور: {TOKEN}",
        f"كلمة السر هي {TOKEN}",
        f"رمز الدخول {TOKEN}",
        f"密码：{TOKEN}",
        f"пароль: {TOKEN}",
        f"Bea\u200brer {TOKEN}",
        f"\uff22earer {TOKEN}",
        f"{JWT[:10]}\u200b{JWT[10:]}",
        b64encode(JWT.encode()).decode(),
        b64encode(f"Bearer {TOKEN}".encode()).decode(),
        quote(json.dumps({"password": TOKEN})),
        quote(quote(json.dumps({"access_token": TOKEN}))),
        quote(f"password: {TOKEN}"),
        f"pass&#119;ord: {TOKEN}",
        f"machine api.example.org login jane password {TOKEN}",
        urlencode({"payload": json.dumps({"access_token": TOKEN})}),
        f'Content-Disposition: form-data; name="password"\r\n\r\n{TOKEN}',
    ],
)
def test_a_credential_in_a_disguise_is_withheld(text: str) -> None:
    assert has_credential(text)
    body = {"note": text}
    kept = json.dumps(withhold(body)[0], ensure_ascii=False)
    assert TOKEN not in kept
    assert JWT[12:] not in kept


@pytest.mark.parametrize(
    "body",
    [
        {"findings": ["pin", "plate", "screw 3.5mm"]},
        {"findings": [["pin site", "dry"], ["key complaint", "cough since 2024"]]},
        {"note": "The token is a sticker. Password - ask reception. El secreto es descansar 8 horas"},
        {"note": "100 % of the dose; 20%25 cream; كلمة المريض واضحة ١٢ مرة"},
        {"note": "ألم\u200c في الرأس منذ 3 أيام"},
        {"columns": ["drug", "signature"], "rows": [["Ibuprofen", "one tablet daily"]]},
    ],
    ids=lambda body: next(iter(body))[:12],
)
def test_clinical_words_are_not_withheld(body: Any) -> None:
    assert withhold(body)[0] is body or withhold(body)[0] == body


@pytest.mark.long
@pytest.mark.parametrize(
    "unit",
    [
        *(
            "<pass_code>",
            "<consultation>",
            "<name>pass_code</name>",
            '<e key="pass_code"',
            "<a b='",
            "pass_code,",
            "&lt;pass_code&gt;",
        ),
        *("password is ", "password a='1' ", 'password"\n', "%22password", "PHBh", "كلمة المرور ", "pass code is "),
        *("[dispense]\n", "=3D pass_code", "cGFzc19jb2RlPTU1Mjg= ", "pass code 1 ", "password 1 ", "a&#119;%20"),
        *(
            "token:",
            "bearer:a",
            "Basic A",
            "authorization: ",
            "-----BEGIN PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-",
        ),
        *("eyJ.", "AKIA", "ghp_", "npm_", "SG.aaaaaaaaaaaaaaaa", "MIIEv", "cookie:a=b;", "token is ", "password: '"),
        *("secret>", "ZXlK", "μg", "passw\u043erd ", "a\u0430", "a=1;b", "//a@", "?a&", "http://a//", "%3D", "&amp;"),
        *(
            "QR code/",
            "qr code 2024-",
            "pass code (",
            "a,b\tc|",
            "=\n",
            "=22",
            "pass_code=3D",
            "pass_code=3A ",
            "=\r\n",
        ),
        *(
            "[pass_code]\n",
            "[pass_code]\na = ",
            "[pass_code]\na=a\n",
            "=a",
            " [",
            "7b22",
            "eyJw",
            "<name>pass_code</",
            "<consultation></a",
        ),
    ],
)
def test_a_long_text_is_redacted_in_linear_time(unit: str) -> None:
    assert_linear(unit)


def test_the_name_of_a_pair_may_itself_have_the_secret() -> None:
    encoded = "CBC %7B%22pass_code%22%3A%20%22" + SECRET + "%22%7D"
    assert SECRET not in str(both_ways({"lab": [encoded, {"name": "x"}]}))
