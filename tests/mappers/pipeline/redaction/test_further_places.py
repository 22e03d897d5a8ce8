"""Secrets at places and beside signs that a sweep over all golden cases found (mapping.md §7)."""

from typing import Any

import orjson
import pytest

from fhirline.mappers.pipeline.envelope import event_key
from fhirline.mappers.pipeline.redaction.credentials import withhold
from fhirline.mappers.pipeline.redaction.redact import REDACTED, redact
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.raw_event import envelope_of
from tests.streams.step4_normalize.test_secrets import AT, read_back
from tests.support.redaction import SECRET, both_ways

ADDRESS = "https://example.org/fhir/pass_code"


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ({"3": "Host", "5": "pass_code", "10": SECRET}, {"3": "Host", "5": "pass_code", "10": REDACTED}),
        ({"0": "pass_code", "1": SECRET, "note": "a"}, {"0": "pass_code", "1": REDACTED, "note": "a"}),
        ({"4": ["id", "pass_code"], "9": [1, SECRET]}, {"4": ["id", "pass_code"], "9": [1, REDACTED]}),
        ({"7": "a", f"pass code: {SECRET}": 1, "2": "b"}, {"7": "a", REDACTED: REDACTED, "2": "b"}),
        ({f"pass_code:\n  value: {SECRET}": 1}, {REDACTED: REDACTED}),
        ({f"\uff50ass_code\uff1a {SECRET}": 1}, {REDACTED: REDACTED}),
        ({"consultation": {"url": ADDRESS, "valueString": SECRET}}, None),
        ({"consultation": {"room": {"url": ADDRESS, "valueString": SECRET}}}, None),
    ],
)
def test_a_secret_in_a_mixed_list_a_key_or_below_its_own_name_is_redacted(value: Any, made: Any) -> None:
    found = both_ways({"x": value})
    assert SECRET not in str(found)
    assert made is None or found == {"x": made}
    assert made is None or [*found["x"]] == [*made], "the order of the members stays"


@pytest.mark.parametrize("value", [{"4711": "QR code", "a": "b"}, {"1": "a", "2": "b", "n": "c"}, {"pass code": ""}])
def test_other_members_with_numbers_stay(value: Any) -> None:
    body = {"x": value}
    assert both_ways(body) is body


@pytest.mark.parametrize(
    "text",
    [
        f"Note. pass_code:\n  at: noon\n  value: {SECRET}\n",
        f"Join, pass code: |\n  {SECRET}",
        f"Note [pass_code]\nvalue = {SECRET}\n",
        f'At 10:30 "pass_code";"id"\n"{SECRET}";"1"',
        f'"{{""pass_code"": ""{SECRET}""}}"',
        *(f"pass_code {sign} {SECRET}" for sign in "\ufe55\u05c3\u2236\ua789\ufe30\u2254\u2190\u2026"),
        *(f"{name} {SECRET}" for name in ("(pass_code)", "[pass_code]", "pass_code <-", "%pass_code% =")),
        *(f"{name}: {SECRET}" for name in ("pass__code", "pass\\_code", "pass_code is", "pass_code's value")),
        f"pass_code (value: {SECRET})",
        f"pass_code('{SECRET}')",
        f"$rx->pass_code() = {SECRET}",
    ],
)
def test_a_secret_behind_its_name_in_a_text_is_redacted(text: str) -> None:
    assert SECRET not in str(both_ways({"note": text}))


@pytest.mark.parametrize(
    "text",
    [
        "Ask for the pass code, please\nTake 2 tablets daily",
        "Note. Pass code:\n  ask the desk\nRest",
        "See [note 5]\nvalue = high",
        "The pass code (on the card) is private. QR code's value: unknown",
    ],
)
def test_prose_stays(text: str) -> None:
    body = {"note": text}
    assert both_ways(body) is body


def test_a_credential_is_found_in_json_in_a_text_and_behind_a_name_of_a_numbered_list() -> None:
    body = {"a": f'Key {{"kty": "oct", "k": "{SECRET}"}}.', "b": "Basic\tamFuZTpodW50ZXIyMg=="}
    assert withhold(body)[0] == {"a": f"Key {REDACTED}.", "b": REDACTED}
    assert withhold({"1": "Host", "2": "X-Token", "5": SECRET})[0] == {"1": "Host", "2": "X-Token", "5": REDACTED}


@pytest.mark.parametrize("around", ["\u200b", " \u2060\n"])
def test_json_in_a_text_keeps_what_is_around_it(around: str) -> None:
    """Without it the next reading took the text for JSON, and made another event key than the gateway."""
    body = {"type": "x", "note": f'{around}{{"pass_code": "{SECRET}", "dose": 2}}{around}'}
    made = redact(body)
    assert made["note"] == f'{around}{{"pass_code":"{REDACTED}","dose":2}}{around}'
    raw = raw_record("altibbi", "acme", orjson.dumps(body), AT, None, 96)
    assert envelope_of(read_back(raw)).event_key == event_key(made)
