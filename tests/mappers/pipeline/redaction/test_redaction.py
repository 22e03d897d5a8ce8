"""Redaction: keys in disguise, shapes below a secret key, and secrets inside texts (mapping.md §7)."""

import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirline.mappers.pipeline.redaction import embedded_formats
from fhirline.mappers.pipeline.redaction.encodings import without_encoded
from fhirline.mappers.pipeline.redaction.labels import without_labelled
from fhirline.mappers.pipeline.redaction.redact import REDACTED, redact

SECRET = "S3CR3T-5528"


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(
    "key",
    [
        "pass_code",
        "PassCode",
        "pass code",
        "pass.code",
        "pass-code ",
        "pass\u200bcode",
        "\ufeffpass\u00adcode",
        "ｐａｓｓ＿ｃｏｄｅ",
        "passCodes",
        "pass_code_2",
        "data.dispense.url",
        "data[dispense][link]",
        "consultation/url",
        "pusherAppKey",
        "pass%5Fcode",
        "%70ass&#95;code",
        "p\u0430ss_c\u043ede",
        "p\u0430ss_\u03c1in_pass_code",
        "p\u00e1ss_code",
        "ap\u0131Key",
        "userPassCode",
        "x_pass_code_value",
        "data__dispense__qr_code",
        "patient-api-key",
        "dispenseUrl",
    ],
)
def test_keys_are_compared_by_their_letters_and_digits(key: str) -> None:
    assert redact({"a": {key: SECRET, "note": "kept"}}) == {"a": {key: REDACTED, "note": "kept"}}


@pytest.mark.parametrize(
    "key",
    [
        "passage",
        "code",
        "dispensed_at",
        "urls",
        "consultation",
        "channel",
        "compass_code_of",
        "dispenseQuantity",
        "qrCount",
    ],
)
def test_other_keys_keep_their_values(key: str) -> None:
    body = {key: "kept"}
    assert redact(body) is body


@pytest.mark.parametrize(
    "dispense",
    [
        SECRET,
        [SECRET],
        {"pin": SECRET, "link": f"rx.example.org/{SECRET}"},
        {"url": {"href": SECRET}},
        [{"url": [SECRET]}, SECRET],
        {SECRET: 1},
        {"rx": {"deep": [{"er": SECRET}]}},
        dumps({"url": SECRET}),
    ],
)
def test_everything_below_a_secret_key_goes(dispense: Any) -> None:
    redacted = redact({"data": {"dispense": dispense}})
    assert SECRET not in dumps(redacted)
    assert REDACTED in dumps(redacted["data"]["dispense"]), "that something was sent is kept"


@pytest.mark.parametrize("absent", [None, "", [], {}])
def test_an_absent_value_stays_absent(absent: Any) -> None:
    body = {"dispense": absent}
    assert redact(body) == body


@pytest.mark.parametrize(
    "consultation",
    [
        {"url": SECRET},
        [{"room": {"URL": SECRET}}],
        f"https://{SECRET}",
        [f"https://{SECRET}"],
        dumps({"url": SECRET}),
        f"url={SECRET}&id=7",
    ],
)
def test_an_address_below_its_parent_goes(consultation: Any) -> None:
    assert SECRET not in dumps(redact({"consultation": consultation}))


def in_texts(inner: Any) -> list[str]:
    once, path = dumps(inner), urlencode({"pass_code": SECRET, "n": 7})
    return [
        once,
        dumps(once),
        dumps([dumps([once])]),
        f"\ufeff\u200b {once}\n",
        once.replace("pass_code", "pass\\u005fcode"),
        once[:-1] + ', "x": NaN, "big": 123456789012345678901234567890}',
        once[:-1],  # cut off
        f"Result: {once}.",
        once.replace('"', "'"),
        once.replace('"', "&quot;"),
        once.replace('"', '\\"'),
        quote(once),
        quote(quote(once)),
        f"https://example.org/r?data={quote(once)}",
        path,
        path.replace("pass_code", "data%5Bdispense%5D%5Burl%5D"),
        f"https://example.org/r?{path}#top",
        f"{{n=7, pass_code={SECRET}}}",
        b64encode(once.encode()).decode(),
        f"See {urlsafe_b64encode(dumps([inner]).encode()).decode().rstrip('=')} there",
        b64encode(b64encode(f"{{ {once[1:]}".encode())).decode(),
        f"Your pass code: {SECRET}, valid today",
        f"url: x\npass_code: {SECRET}\n",
        f"QR code -> {SECRET}",
        f"X-Api-Key: {SECRET}",
        f"<rx><pass_code>{SECRET}</pass_code></rx>",
        f"&lt;pass_code&gt;{SECRET}&lt;/pass_code&gt;",
        f"{{passCode:'{SECRET}'}}",
        f'a:1:{{s:9:"pass_code";s:11:"{SECRET}";}}',
        f"map[pass_code:{SECRET}]",
        f"pass_code\t{SECRET}",
    ]


@pytest.mark.parametrize("text", in_texts({"pass_code": SECRET}))
def test_redaction_sees_into_texts(text: str) -> None:
    body = {"note": "kept", "list": [{"extra": text}]}
    redacted = redact(body)
    assert SECRET not in dumps(redacted)
    assert redacted["note"] == "kept"
    assert redact(redacted) == redacted, "idempotent"
    assert redact(body, orjson.dumps(body)) == redacted, "the source changes nothing"


@pytest.mark.parametrize(
    "named",
    [
        {"name": "pass_code", "value": SECRET},
        [{"key": "PassCode", "type": "text", "value": {"text": SECRET}}],
        {"Name": "Pass code", "Value": [SECRET]},
        {"header": "X-Api-Key", "content": SECRET},
        {"label": "p\u0430ss code", "data": SECRET},
        ["apiKey", SECRET],
        [["n", 1], ["pass_code", [SECRET]]],
        {"0": "pass_code", "1": SECRET},
        dumps([{"k": "qr_code", "v": SECRET}]),
        [f"pass code: {SECRET}", "kept"],
    ],
)
def test_a_value_that_another_member_names_goes(named: Any) -> None:
    redacted = redact({"extra": named})
    assert SECRET not in dumps(redacted)
    assert redact(redacted) == redacted, "idempotent"


@pytest.mark.parametrize(
    "named",
    [
        {"name": "dispense", "value": "20 tablets"},
        {"code": "secret", "text": "none"},
        {"name": "Ibuprofen", "value": "400 mg"},
        ["dispense", "daily"],
        ["pass_code", "a", "b"],
    ],
)
def test_a_word_of_a_record_names_no_secret(named: Any) -> None:
    body = {"extra": named}
    assert redact(body) is body


def test_the_first_value_of_a_repeated_key_is_not_kept_in_a_text() -> None:
    text = f'{{"pass_code": "{SECRET}", "pass_code": ""}}'
    assert redact({"x": text}) == {"x": '{"pass_code":""}'}


def test_a_text_that_is_nested_too_deep_goes_if_it_names_a_secret() -> None:
    deep = '[{"a":' * 200 + dumps({"pass_code": SECRET}) + "}]" * 200
    harmless = '[{"a":' * 200 + "1" + "}]" * 200
    assert redact({"x": deep, "y": harmless}) == {"x": REDACTED, "y": harmless}


@pytest.mark.parametrize(
    "text",
    [
        "Dispense 20 tablets & review; T=37.5, pulse=80/min",
        'He said "it is no secret", 100 % sure & calm',
        '{"a": 1,  "b": [1.0]}',
        '["fever", "cough"]',
        '"Aspirin" 100 mg: dispense = no',
        "{'a': 1}",
        "https://example.org/leaflet?page=2&lang=en",
        "Pass code: ask the pharmacy. QR code on the leaflet, page 12",
        "Apixaban 5 mg: 2 x daily; passes urine: 5 x; consultation url > 5",
        "eyJhbGciOiJub25lIn0 ewogICJub3RlIjogIm5vbmUiCn0=",
    ],
)
def test_other_texts_keep_every_byte(text: str) -> None:
    body = {"note": text}
    assert redact(body) is body


PIECES = st.sampled_from(
    [
        *("pass", "Pass", "CODE", "qr", "url", "consultation", "key", "token", "webhook", "signature", "dispense", "a"),
        *("paſſ", "\u212aey", "ap\u0130", "s\u0131gnature", "\ud800", " ", "_", "-", "&#095;", "%5f", "s", ": "),
        *(
            "=",
            '"',
            "&",
            "{'",
            "\\",
            "\n",
            ">",
            "\u2192",
            "eyJwYXNzX2NvZGUiOiIxMjM0In0=",
            "5528",
            "a1b2c3d4e5f6",
            REDACTED,
        ),
    ]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)


@given(TEXTS)
def test_every_text_with_a_secret_is_found(text: str) -> None:
    """A text is passed over, alone or in its document, only where each kind of redaction would leave it as it is."""
    plain = without_encoded(text, lambda inner: redact(inner) != inner)
    read = embedded_formats.redacted_text(plain, frozenset(), embedded_formats.ROOM, lambda value, *_: redact(value))
    redacted = without_labelled(read if embedded_formats.has_mark(plain) else plain)
    assert redact({"a": [text]}) == {"a": [redacted]}
    if "\ud800" not in text:
        body = {"pass_code": "", "a": [text, {"b": 1}]}
        assert redact(body, orjson.dumps(body)) == redact(body)


@pytest.mark.parametrize(
    "text",
    [
        "%7B%22pass_code%22%3A%22{}%22%7D &amp; more",
        "&lbrace;&quot;pass_code&quot;:&quot;{}&quot;,&quot;u&quot;:&quot;a%22b&quot;}",
        "%26quot%3Bpass_code%26quot%3B:%26quot%3B{}%26quot%3B",
        "&#37;7B&#37;22pass_code&#37;22&#37;3A&#37;22{}&#37;22&#37;7D",
        "%25252525257B%252525252522pass_code%252525252522:%252525252522{}",
        "a=1&amp;pass_code={}&amp;b=50%25",
    ],
)
def test_a_secret_is_seen_through_both_encodings_together(text: str) -> None:
    assert "QZV7LMD31" not in str(redact({"note": text.replace("{}", "QZV7LMD31")}))
