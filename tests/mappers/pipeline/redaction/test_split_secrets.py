"""Secrets below split names, in rows, in extensions and in indented texts are redacted (mapping.md §7)."""

import json
import random
from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

from fhirline.mappers.pipeline.redaction.embedded_formats import ROOM
from fhirline.mappers.pipeline.redaction.keys import treatment
from fhirline.mappers.pipeline.redaction.plain_parts import is_plain, members_of
from fhirline.mappers.pipeline.redaction.redact import REDACTED, redact
from fhirline.mappers.pipeline.redaction.values import Redaction
from tests.support.bombs import SHAPES
from tests.support.redaction import SECRET, both_ways

ADDRESS = "https://example.org/fhir/StructureDefinition"


@pytest.mark.parametrize(
    "body",
    [
        {"pass": {"code": SECRET}},
        {"data": {"userPass": {"codeValue": SECRET, "count": 1}}},
        {"data": [{"pass": {"code": "a"}}, {"pass": {"code": SECRET}}]},
        {"QR": [{"Code": {"any": [SECRET]}}]},
        {"pusher": {"app": {"key": SECRET}}},
        {"pusherApp": {"key": SECRET}},
        {"\uff50\uff41\uff53\uff53": {"code": SECRET}},
        {"api": {"key": SECRET}},
        {"rows": [["pass_code"], [SECRET]]},
        {"rows": [["pass_code"], ["first"], [SECRET]]},
        {"rows": [["id", "pass_code"], ["7", SECRET], [8, SECRET]]},
        {"rows": [["pass_code", "dose"], [SECRET, "2"]]},
        [["Pass code"], [SECRET]],
        [{"name": "pass_code"}, {"value": SECRET}],
        {"name": "passcode", "value": SECRET},
        {"url": f"{ADDRESS}/pass_code", "valueString": SECRET},
        {"url": f"{ADDRESS}#pass-code", "valueIdentifier": {"system": "x", "value": SECRET}},
        {"url": f"{ADDRESS}/pass_code/?version=1", "valueMarkdown": SECRET},
        {"url": "urn:example:pass-code", "valueDecimal": 5528.25, "valueString": SECRET},
        {"url": f"{ADDRESS}/pass_code", "extension": [{"url": "value", "valueString": SECRET}]},
        {"system": "https://example.org/sid/pass_code", "value": SECRET},
        {"type": {"text": "Pass code"}, "value": SECRET},
        {"code": {"coding": [{"code": "pass_code"}]}, "valueString": SECRET},
        {"note": f"pass_code:\n  value: {SECRET}"},
        {"note": f"pass_code:\r\n  value: {SECRET}\r\n"},
        {"note": f"pass_code:\n  - {SECRET}\n  - {SECRET}\n"},
        {"note": f"pass_code:\n- {SECRET}\n- {SECRET}\n"},
        {"note": f"pass_code: |\n  {SECRET}\n  and {SECRET}\n"},
        {"note": f"pass_code: >-\n\n  more {SECRET}\n"},
        {"note": f"x:\n  - pass_code:\n      - a: {SECRET}\n        b: {SECRET}\n    dose: 2"},
        {"note": f"pass_code: [a, {SECRET}]"},
        {"note": f"pass_code: {{a: {SECRET}, b: {SECRET}}}"},
        {"note": f"pass_code: {{\n  a: b,\n  c: {SECRET}\n}}"},
        {"note": f"pass_code: !!str {SECRET}"},
        {"note": f"pass_code: &anchor\n  a: {SECRET}"},
        {"note": f"pass:\n  code: {SECRET}"},
        {"note": f"pass:\n  code:\n    - {SECRET}\n  count: 2"},
        {"note": f"Pass code:\n  - {SECRET}\n  - {SECRET}"},
        {"note": f"dispense:\n  url: {SECRET}\n  code: {SECRET}\n  at: https://example.org/{SECRET}"},
        {"note": f"- pass_code\n- {SECRET}"},
        {"note": f"1. Pass code\n2. {SECRET}"},
        {"note": f"| pass_code | {SECRET} |"},
        {"note": f"pass:\n  pass_code:\n    value: {SECRET}"},
        {"note": f"pusher:\n  app:\n    key: {SECRET}"},
        {"note": f"{{ qr: {{ code: '{SECRET}' }} }}"},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_a_secret_below_or_beside_its_name_goes(body: Any) -> None:
    assert SECRET not in json.dumps(both_ways(body), ensure_ascii=False)


def test_what_is_not_below_the_name_stays() -> None:
    text = f"plan: rest\npass_code:\n  - at: noon\n    value: {SECRET}\ndose: 2 tablets\n"
    shown = f"plan: rest\npass_code:\n  - at: {REDACTED}\n    value: {REDACTED}\ndose: 2 tablets\n"
    assert both_ways({"note": text}) == {"note": shown}
    assert both_ways({"pass": {"code": SECRET, "count": 2}}) == {"pass": {"code": REDACTED, "count": 2}}
    assert both_ways([["id", "pass_code"], [7, SECRET]]) == [["id", "pass_code"], [7, REDACTED]]
    assert both_ways([["pass_code", SECRET], ["dose", "400 mg"]]) == [["pass_code", REDACTED], ["dose", "400 mg"]]


@pytest.mark.parametrize(
    "body",
    [
        {"pass": {"count": 1}, "qr": {"size": 3}, "api": {"version": "1"}, "authorization": {"date": "2024-05-01"}},
        {"diagnosis": {"code": "E11.9"}, "compass": {"code": "N"}, "consultation": {"code": "R05"}},
        {"pass": {"diagnosis": {"code": "E11.9"}}},
        [["drug", "dose"], ["Ibuprofen", "400 mg"]],
        [{"type": "text"}, {"value": "12 days"}],
        [{"type": "pass_code"}, {"type": "Ibuprofen", "value": "400 mg"}],
        {"name": "dispense", "value": "20 tablets"},
        {"url": f"{ADDRESS}/dose", "valueString": "400 mg"},
        {"url": f"{ADDRESS}/dispense", "valueString": "20 tablets"},
        {"url": "https://example.org/pass_code/leaflet", "valueString": "20 pages"},
        {"system": "http://loinc.org", "value": "29463-7"},
        {"code": {"text": "Body weight"}, "valueQuantity": {"value": 70}},
        {"note": "Dispense:\n  amoxicillin: 500 mg\n  3 times daily\n  status: completed 2024"},
        {"note": "Pass code:\n  ask at the pharmacy\n  bring your card\nPlan:\n  code: E11.9"},
        {"note": "QR code:\n- scan at the desk\n- wait 15 minutes"},
        {"note": "consultation:\n  reason: cough for 3 days\n  code: R05\npass:\n  count: 12"},
        {"note": "api:\n  version: 1\nPlan: [rest, 2 days]\n- code: {a: E11.9}"},
        {"note": "pass:\n  diagnosis:\n    code: E11.9"},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_what_names_no_secret_stays(body: Any) -> None:
    assert both_ways(body) == body


PARTS = (
    *("pass", "code", "qr", "url", "dispense", "pusher", "app", "key", "consultation", "authorization", "token"),
    *("secret", "chatConfig", "openTele", "Room", "user", "a", "b", "1", "22", "s", "webhook", "signature"),
)
SIGNS = ("", "_", "-", " ", ".", "[", "]", "/", "%5f", "&amp;", "\u200b", "%20", "é", "\u0301", "1", "%", "=", "\uff05")


def _disguised(part: str, rng: random.Random) -> str:
    return rng.choice(
        (
            part,
            part,
            part.upper(),
            part.title(),
            part.replace("a", "\u0430"),
            "".join(chr(ord(sign) + 0xFEE0) for sign in part),
            "".join(f"%{ord(sign):02x}" for sign in part),
            "".join(f"\uff05{ord(sign):02x}" for sign in part),
            "".join(f"&#{ord(sign)};" for sign in part),
        )
    )


def _plain_keys(body: dict[str, Any]) -> list[str]:
    parts = members_of(body, lambda part: is_plain(part, frozenset(), texts=False))
    return [key for part, plain in parts if plain for key in part]


@pytest.mark.parametrize("size", [6_000, pytest.param(60_000, marks=pytest.mark.long)])
def test_a_key_of_a_large_object_is_treated_as_it_is_in_a_small_one(size: int) -> None:
    """A key that is found plain among many is plain alone, and most keys that name nothing are found so."""
    rng = random.Random(15)
    others = [f"k{number}" for number in range(size)]
    hostile = [
        "".join(_disguised(rng.choice(PARTS), rng) + rng.choice(SIGNS) for _ in range(rng.randint(1, 4)))
        for _ in range(size // 15)
    ]
    mixed = others + hostile
    rng.shuffle(mixed)
    for keys in (hostile, mixed, others + hostile):
        body = dict.fromkeys(keys, SECRET)
        for key in _plain_keys(body):
            assert not treatment(key).redacted, key
            assert redact({key: SECRET}) == {key: SECRET}
        whole = redact(body)
        for key in hostile:
            alone = redact({key: SECRET})
            assert (key in whole) == (key in alone), key  # a key that is a text with a secret becomes [redacted]
            assert whole.get(key) == alone.get(key), key
    assert len(_plain_keys(dict.fromkeys(others))) == len(others)
    assert any(whole.get(key) == REDACTED for key in hostile)


def test_behind_a_thousand_names_of_secrets_a_text_is_a_value() -> None:
    """A text of nothing but names took 15 µs for each of them."""
    lines = "chatConfig:\n  size: 2\n  token: abc\n"
    few, many = redact([f"{lines * number}plan: rest" for number in (900, 1_100)])
    assert few == lines.replace("abc", REDACTED) * 900 + "plan: rest"
    assert many.startswith(lines.replace("abc", REDACTED) * 900)
    assert many.endswith(f"\n{REDACTED}")
    assert len(many) < len(lines.replace("abc", REDACTED)) * 1_000


class _OneByOne(Redaction):
    """Redaction that searches no parts."""

    _many = 1_000_000_000


def _seconds(redact_it: Callable[[], object]) -> float:
    """Return the least processor time of redacting a body, of three runs."""
    found = []
    for _ in range(3):
        began = process_time()
        redact_it()
        found.append(process_time() - began)
    return min(found)


@pytest.mark.long
@pytest.mark.parametrize("shape", [name for name in SHAPES if name.startswith("distinct")])
def test_distinct_keys_are_searched_together(shape: str) -> None:
    """One by one, most took 6 to 18 times as long. Names of secrets are looked at one by one in both cases."""
    body = SHAPES[shape]()
    together = _seconds(lambda: redact(body))
    one_by_one = _seconds(lambda: _OneByOne().redacted(body, frozenset(), ROOM))
    assert together < (3.0 if "secret" in shape else 0.5) * one_by_one
