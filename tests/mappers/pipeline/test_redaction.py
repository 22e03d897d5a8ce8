"""Redaction: keys in disguise, shapes below a secret key, and secrets inside texts (mapping.md §7)."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest

from fhirline.mappers.pipeline.redaction import REDACTED, redact

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
    ],
)
def test_keys_are_compared_by_their_letters_and_digits(key: str) -> None:
    assert redact({"a": {key: SECRET, "note": "kept"}}) == {"a": {key: REDACTED, "note": "kept"}}


@pytest.mark.parametrize(
    "key", ["passage", "code", "dispensed_at", "urls", "consultation", "channel", "compass_code_of"]
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
    ]


@pytest.mark.parametrize("text", in_texts({"pass_code": SECRET}))
def test_redaction_sees_into_texts(text: str) -> None:
    body = {"note": "kept", "list": [{"extra": text}]}
    redacted = redact(body)
    assert SECRET not in dumps(redacted)
    assert redacted["note"] == "kept"
    assert redact(redacted) == redacted, "idempotent"
    assert redact(body, orjson.dumps(body)) == redacted, "the source changes nothing"


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
    ],
)
def test_other_texts_keep_every_byte(text: str) -> None:
    body = {"note": text}
    assert redact(body) is body


def test_many_texts_are_redacted_in_linear_time() -> None:
    """Each is larger than what a quadratic search gets through within the test's time."""
    for unit in ('"', "a=", "=", "%25", "&quot;", "\\", "pass_code ", '"pass_code', "{'", "["):
        text = unit * (400_000 // len(unit))
        assert redact({"x": f"{text} pass_code={SECRET}"}) != {"x": f"{text} pass_code={SECRET}"}
