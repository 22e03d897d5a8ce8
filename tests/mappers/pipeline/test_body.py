"""Reading of a body (mapping.md §2.5): tolerant, exact, through text that is JSON, bounded, and the same again."""

import json
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirline.config import tables
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline import tolerant
from fhirline.mappers.pipeline.body import BODY_FLAGS, CAUSES, MAX_DEPTH, UnreadableBody, read_body
from fhirline.mappers.pipeline.envelope import Envelope, event_key, open_envelope

RECEIVED = Instant.parse("2024-06-01T12:00:00Z")
assert RECEIVED is not None


def opened(value: bytes | str, *flags: str) -> Envelope:
    assert RECEIVED is not None
    return open_envelope("altibbi", "acme", value, RECEIVED, flags=flags)


def test_every_flag_has_a_row() -> None:
    assert set(tables.flags().flags) >= BODY_FLAGS


@pytest.mark.parametrize(
    ("sent", "read", "flags"),
    [
        (b'{"a": NaN, "b": [Infinity, -Infinity]}', {"a": None, "b": [None, None]}, {"not-a-number"}),
        (b'{"a": 1, "b": 2, "a": 3}', {"a": 3, "a[repeated 1]": 1, "b": 2}, {"repeated-key"}),
        (
            b'{"a" : 1, "a": 2, "\\u0061"\n: 2, "a": null}',
            {"a": None, "a[repeated 1]": 1, "a[repeated 2]": 2, "a[repeated 3]": 2},
            {"repeated-key"},
        ),
        (b'{"a":1,"a":2,"t":"x\\u0022: y"}', {"a": 2, "a[repeated 1]": 1, "t": 'x": y'}, {"repeated-key"}),
        (b'{"a":1,"a":2,"t":"x\\"\\u003A"}', {"a": 2, "a[repeated 1]": 1, "t": 'x":'}, {"repeated-key"}),
        (b'{"\\ud800": 1, "\\udfff": 2}', {"\ufffd": 2, "\ufffd[repeated 1]": 1}, {"repeated-key", "text-damaged"}),
        (b'{"x": [{"id": 1, "id" : true}]}', {"x": [{"id": True, "id[repeated 1]": 1}]}, {"repeated-key"}),
        (b'{"a": {"b": [1], "c": 1}, "a": {"b": [1], "c": 1}}', {"a": {"b": [1], "c": 1}}, set()),
        (
            b'{"a": "{\\"id\\": 1, \\"id\\": 2}"}',
            {"a": {"id": 2, "id[repeated 1]": 1}},
            {"repeated-key", "json-in-text"},
        ),
        (b'{"a": 1e400, "b": -1E+400, "c": 1e-400}', {"a": "1e400", "b": "-1e+400", "c": "1e-400"}, {"number-as-text"}),
        (b'{"a": 18446744073709551616}', {"a": "18446744073709551616"}, {"number-as-text"}),
        (b'{"a": -9223372036854775809}', {"a": "-9223372036854775809"}, {"number-as-text"}),
        (b'{"a": 18446744073709551616.0}', {"a": "18446744073709551616"}, {"number-as-text"}),
        (b'{"a": 9.007199254740993e15}', {"a": "9007199254740993"}, {"number-as-text"}),
        (b'{"a": 3.14159265358979323846}', {"a": "3.14159265358979323846"}, {"number-as-text"}),
        (b'{"a": 1%s}' % (b"0" * 5000), {"a": "1" + "0" * 5000}, {"number-as-text"}),
        (b'{"a": 1e99999999999999999999}', {"a": "1e99999999999999999999"}, {"number-as-text"}),
        (b'{"a": "x\\ud83d", "\\ude00": "\\ud83d\\ude00"}', {"a": "x\ufffd", "\ufffd": "😀"}, {"text-damaged"}),
        (b'{"a": "\xed\xa0\xbd"}', {"a": "\ufffd"}, {"text-damaged", "json-not-strict"}),
        (b'{"a": "\xed\xa0\xbd\xed\xb8\x80"}', {"a": "😀"}, {"json-not-strict"}),
        (b'{"a": "one\ntwo\x01"}', {"a": "one\ntwo\x01"}, {"json-not-strict"}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}, {"byte-order-mark"}),
        (
            b'\xef\xbb\xbf{"a": 18446744073709551616}',
            {"a": "18446744073709551616"},
            {"byte-order-mark", "number-as-text"},
        ),
        # what a double holds stays the number that it was
        (b'{"a": 18446744073709551615, "b": -9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}, set()),
        (b'{"a": 100000000000000000000, "b": 1e3}', {"a": 1e20, "b": 1e3}, set()),
        (b'{"a": 98.599999999999994, "b": 0.30000000000000004}', {"a": 98.6, "b": 0.30000000000000004}, set()),
        (b'{"a": 0.1000000000000000055511151231257827021181583404541015625}', {"a": 0.1}, set()),
        (b'{"a": "18446744073709551616", "b": ": 1e-400"}', {"a": "18446744073709551616", "b": ": 1e-400"}, set()),
    ],
)
def test_what_the_fast_parser_refuses_or_changes(sent: bytes, read: dict[str, Any], flags: set[str]) -> None:
    found = read_body(sent)
    assert (found.body, set(found.flags)) == (read, flags)
    assert {key: type(value) for key, value in found.body.items()} == {key: type(value) for key, value in read.items()}


@pytest.mark.parametrize("levels", [MAX_DEPTH, 201, 254, 300, 900, 5_000])
@pytest.mark.parametrize("value", [b'{"a":', b'{"a":1,"a":', b'{"a": 1e400, "b" :', b"["])
def test_every_depth_beyond_the_limit_is_too_deep(levels: int, value: bytes) -> None:
    end = b"]" if value == b"[" else b"}"
    with pytest.raises(UnreadableBody) as refused:
        read_body(b'{"x": ' + value * levels + b"1" + end * levels + b"}")
    assert refused.value.code == "too-deep"


OBJECT = {"pass_code": 5528, "list": [1, {"a": None}]}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(OBJECT),
        " \t\r\n" + json.dumps(OBJECT, indent=1) + "\n ",
        "\ufeff" + json.dumps(OBJECT),
        json.dumps(json.dumps(OBJECT)),
        json.dumps(json.dumps(json.dumps(OBJECT))),
        json.dumps({**OBJECT, "list": json.dumps([1, json.dumps({"a": None})])}),
    ],
)
def test_text_that_is_json_is_read_as_such(text: str) -> None:
    for around, value in (({"data": text}, {"data": OBJECT}), ({"a": [[text]]}, {"a": [[OBJECT]]})):
        found = read_body(json.dumps(around))
        assert (found.body, found.flags) == (value, ("json-in-text",))
        assert b"5528" not in orjson.dumps(opened(json.dumps(around)).body)
    assert read_body(json.dumps(text)).body == OBJECT


@pytest.mark.parametrize(
    "start", [r"{\"", r"\u007b\u0022", r"\n{\"", r" {\"", r"\t\r \ufeff{\"", r"\uFEFF\u0020\u007B\u0022"]
)
def test_text_that_begins_in_another_way_is_json_too(start: str) -> None:
    assert read_body('{"data": "' + start + 'a\\": 1}"}') == ({"data": {"a": 1}}, ("json-in-text",))


def test_a_secret_in_text_that_only_the_tolerant_reader_reads() -> None:
    for text in ('{"pass_code": 5528, "x": NaN}', '{"pass_code": "5528\\ud83d"}', '{"pass_code": 5528, "x": "a\nb"}'):
        assert opened(json.dumps({"data": text})).body["data"]["pass_code"] == "[redacted]"


@pytest.mark.parametrize(
    "text",
    ['"quoted"', "[sic] see above", "{name}", "[x]", "{", "[", '"', "[1] and [2]", "[redacted]", "12", "null", "{} {}"],
)
def test_text_that_is_not_json_stays(text: str) -> None:
    assert read_body(json.dumps({"a": text})) == ({"a": text}, ())


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_depth_counts_the_levels_in_text() -> None:
    assert read_body(json.dumps({"a": nested(63)}), 64).flags == ("json-in-text",)
    assert read_body(json.dumps({"a": {"b": json.dumps([nested(61)])}}), 64).flags == ("json-in-text",)
    for value in (
        {"a": nested(64)},
        {"a": {"b": json.dumps([nested(62)])}},
        {"a": nested(300)},
        {"a": nested(1500)},
        {"a": nested(100_000)},
    ):
        for sent in (json.dumps(value), json.dumps(json.dumps(value))):
            with pytest.raises(UnreadableBody) as caught:
                read_body(sent, 64)
            assert caught.value.code == "too-deep"
    for depth in (900, 50_000):
        with pytest.raises(UnreadableBody) as caught:
            read_body('{"a":' + nested(depth) + "}")
        assert caught.value.code == "too-deep"


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "cause", "place"),
    [
        (b"", "empty", None),
        (b" \n", "empty", None),
        (b'{"a": 1', "cut-off", (1, 8)),
        (b'{"a": "secret', "cut-off", (1, 7)),
        (b'{"a":\n  secret}', "syntax", (2, 3)),
        (b'{"a": 1} secret', "syntax", (1, 10)),
        (b"a=b&c=d", "syntax", (1, 1)),
        (b'{"a":\n "\xc3\xa9\xe9"}', "not-utf-8", (2, 4)),
        ('{"a": 1}'.encode("utf-16"), "utf-16", None),
        ('{"a": 1}'.encode("utf-16-le"), "utf-16", None),
        ('{"a": 1}'.encode("utf-16-be"), "utf-16", None),
        ('{"a": 1}'.encode("utf-32"), "utf-32", None),
        ('{"a": 1}'.encode("utf-32-le"), "utf-32", None),
        ('{"a": 1}'.encode("utf-32-be"), "utf-32", None),
        ("\ufeff{}".encode("utf-32-be"), "utf-32", None),
        (b"\x1f\x8b\x08\x00\x00", "compressed", None),
        (b"[]", "not-an-object", None),
        (json.dumps("[]").encode(), "not-an-object", None),
    ],
)
def test_what_nobody_can_read_is_refused_with_its_place(sent: bytes, cause: str, place: tuple[int, int] | None) -> None:
    with pytest.raises(UnreadableBody) as caught:
        read_body(sent)
    error = caught.value
    assert (error.code, error.cause) == ("not-an-object" if cause == "not-an-object" else "not-json", cause)
    assert (error.line, error.column) == (place or (None, None))
    assert "secret" not in str(error)
    assert error.cause in CAUSES


# --- properties -------------------------------------------------------------------------------------------------------

DIGITS = st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@given(DIGITS)
def test_no_number_loses_a_digit_that_matters(digits: str) -> None:
    """The fast path is taken only where it reads what the tolerant one reads."""
    flags: set[str] = set()
    try:
        exact = tolerant.parse(f'{{"a": {digits}}}'.encode(), flags)["a"]
    finally:
        found, compact = read_body(f'{{"a": {digits}}}'), read_body(f'{{"a":{digits}}}')
    assert repr(found.body["a"]) == repr(compact.body["a"]) == repr(exact)
    assert set(found.flags) == set(compact.flags) == flags
    if isinstance(exact, str):
        assert Decimal(exact) == Decimal(digits)
    elif Decimal(repr(exact)) != Decimal(digits):  # digits of a fraction behind the 17th, or of another notation
        assert abs(Decimal(exact) / Decimal(digits) - 1) < Decimal("3e-16")
        assert Decimal(digits) != Decimal(digits).to_integral_value()


NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=2**63, max_value=2**70),
    st.floats(),
    st.sampled_from([2**64, 10**30, float("nan"), float("inf")]),
)
TEXT = st.text(st.characters(), max_size=6)  # surrogates included
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, st.sampled_from(["[1]", "{", "[x]", '"a"', "{}"]))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(TEXT, st.sampled_from(["pass_code", "a", "data"])), inner, max_size=3),
        inner.map(json.dumps),
        inner.map(lambda value: json.dumps(value, ensure_ascii=False)),
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(st.one_of(TEXT, st.sampled_from(["dispense", "data"])), VALUES, max_size=4)


@given(BODIES, st.booleans(), st.booleans())
def test_what_is_stored_is_read_the_same_again(body: dict[str, Any], ascii_only: bool, bom: bool) -> None:
    """The gateway stores a body as read, with its flags in a header; the worker gets the same event of that."""
    sent = ("\ufeff" if bom else "") + json.dumps(body, ensure_ascii=ascii_only)
    received = opened(sent.encode("utf-8", "surrogatepass"))
    stored = orjson.dumps(received.body)
    again = opened(stored, *received.flags)
    assert (again.body, again.event_key, again.flags) == (received.body, received.event_key, received.flags)
    assert opened(stored.decode()).event_key == received.event_key
    assert opened(json.dumps(sent)).event_key == received.event_key  # the body as a text


STRICT_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
STRICT = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), STRICT_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(STRICT_TEXT, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(STRICT_TEXT, STRICT, max_size=4))
def test_the_event_key_of_a_strict_body_is_that_of_the_fast_parser(body: dict[str, Any]) -> None:
    sent = orjson.dumps(body)
    found = read_body(sent)
    if "json-in-text" not in found.flags:
        assert (found.body, found.flags) == (orjson.loads(sent), ())
        assert event_key(found.body) == event_key(orjson.loads(sent))
