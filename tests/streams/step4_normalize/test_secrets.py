"""A secret planted anywhere, in any disguise, by any entrance, is in nothing that a process writes (mapping.md §7)."""

import json
import random
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fhirline.config.tables import secrets
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalizer
from fhirline.streams.kafka.headers import Headers, headers
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.step1_receive.files import lines
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step2_consume.batch import _log_letter, _log_mapped
from fhirline.streams.step3_restore.state import state_record
from fhirline.streams.step4_normalize.map_event import map_event
from tests.support.cases import Case, cases
from tests.support.mutations import places

CASES = cases()
SECRET = "s3cr3t-5528-xyzzy"
RECEIVED_AT = Instant.parse("2024-06-01T12:00:00Z")
assert RECEIVED_AT is not None
AT: Instant = RECEIVED_AT

DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": lambda key: key,
    "upper case": str.upper,
    "separators": lambda key: " - ".join(key.replace("_", "-").split("-")) + ".",
    "zero width": "\u200b".join,
    "full width": lambda key: "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in key),
    "plural": lambda key: f"{key}s",
    "flattened": lambda key: f"data.{key}.value",
}
SHAPES: dict[str, Callable[[], Any]] = {
    "text": lambda: SECRET,
    "list": lambda: [SECRET, 1],
    "nested": lambda: {"a": {"url": [SECRET]}},
    "key": lambda: {SECRET: 1},
    "JSON": lambda: json.dumps({"v": SECRET}),
}
WRAPPED: dict[str, Callable[[Any], Any]] = {
    "no text": lambda planted: planted,
    "JSON in text": json.dumps,
    "JSON in text twice": lambda planted: json.dumps(json.dumps(planted)),
    "JSON in a list in text": lambda planted: json.dumps([json.dumps([planted])]),
    "JSON in an address": lambda planted: quote(json.dumps(planted)),
    "JSON as a key": lambda planted: {json.dumps(planted): 1},
}


def redacted_places() -> list[tuple[str, ...]]:
    """Every key of the table that is redacted, below the parent that it needs."""
    table = secrets()
    return [(key,) for key in table.redacted] + [
        (parent, key) for parent, keys in table.redacted_below.items() for key in keys
    ]


@cache
def normalizer(position: int) -> Normalizer:
    return CASES[position].normalizer()


def planted(case: Case, rng: random.Random, keys: tuple[str, ...], disguise: str, shape: str, wrapped: str) -> Any:
    """One of the case's bodies, with a secret at a random place."""
    body = json.loads(json.dumps(rng.choice(case.events)))
    objects = [body]
    for path in places(body):
        value = body
        for step in path:
            value = value[step]
        if isinstance(value, dict):
            objects.append(value)
    secret: Any = SHAPES[shape]()
    for key in reversed(keys):
        secret = {DISGUISES[disguise](key): secret}
    target = rng.choice(objects)
    if wrapped == "no text":
        target.update(secret)
    else:
        target[rng.choice(["extra", *target])] = WRAPPED[wrapped](secret)
    return body


def written(raw: ConsumerRecord, position: int) -> list[ProducerRecord]:
    """All records that a worker makes of a raw record, state entries included."""
    followed = map_event(raw, normalizer(position), InMemoryState(), 6)
    assert followed.error != "mapping-failed"
    if followed.normalized:
        _log_mapped(raw, followed.normalized)
    if followed.error:
        _log_letter(raw, followed.records[-1], followed.error)
    states = [state_record("normalizer.state", 0, followed.key, update) for update in followed.state_updates]
    return [*followed.records, *states]


def read_back(record: ProducerRecord) -> ConsumerRecord:
    sent: Headers = list(record.headers)
    return ConsumerRecord(record.topic, 0, 0, 0, record.key, record.value, sent)


def check(records: list[ProducerRecord], logged: list[Any]) -> None:
    for record in records:
        for content in (record.value or b"", record.key or b"", repr(record.headers).encode(), repr(logged).encode()):
            assert SECRET.encode() not in content, record.topic


@settings(max_examples=100)
@given(
    position=st.integers(0, len(CASES) - 1),
    seed=st.integers(0, 2**32),
    keys=st.sampled_from(redacted_places()),
    disguise=st.sampled_from([*DISGUISES]),
    shape=st.sampled_from([*SHAPES]),
    wrapped=st.sampled_from([*WRAPPED]),
)
def test_no_secret_is_written(
    position: int, seed: int, keys: tuple[str, ...], disguise: str, shape: str, wrapped: str
) -> None:
    case = CASES[position]
    body = orjson.dumps(planted(case, random.Random(seed), keys, disguise, shape, wrapped))
    assert SECRET.encode() in body
    (line,) = lines("file", BytesIO(body + b"\n"), len(body) + 1)
    assert line.content is not None
    with capture_logs() as logged:
        gateway = raw_record(case.vendor, "acme", body, AT, case.route_event, 200)
        ingest = raw_record(case.vendor, "acme", line.content, AT, case.route_event, 200)
        assert gateway == ingest
        route = {"event_type": case.route_event} if case.route_event else {}
        foreign = ConsumerRecord(
            f"raw.{case.vendor}", 0, 0, 0, b"k", body, headers(received_at=AT.text, tenant="acme", **route)
        )
        records = [gateway, *written(read_back(gateway), position), *written(foreign, position)]
    check(records, logged)


GOOD = {"type": "x", "dispense": {"pin": SECRET}, "extra": json.dumps({"qr_code": SECRET})}


@pytest.mark.parametrize(
    ("value", "sent", "code", "kept"),
    [
        (json.dumps(GOOD).encode(), headers(tenant="NO SLUG"), "bad-header", True),
        (json.dumps([GOOD, [GOOD]]).encode(), [], "not-an-object", True),
        (f'["pass_code={SECRET}"]'.encode(), [], "not-an-object", True),
        (f'"{SECRET}"'.encode(), [], "not-an-object", False),
        (f'{{"pass_code": "{SECRET}"'.encode(), [], "not-json", False),
        (f'{SECRET}", "x": 1}}'.encode(), [], "not-json", False),
        (f'{{"pass\\u005fcode": "{SECRET}"'.encode(), [], "not-json", False),
        (json.dumps(GOOD).encode("utf-16"), [], "not-json", False),
        (f"pass%5Fcode={SECRET}".encode(), [], "not-json", False),
        (b'{"a":' * 300 + f'"{SECRET}"'.encode() + b"}" * 300, [], "too-deep", False),
    ],
)
def test_no_letter_has_a_value_that_was_not_redacted(value: bytes, sent: Headers, code: str, kept: bool) -> None:
    raw = ConsumerRecord("raw.altibbi", 0, 0, 0, b"k", value, sent)
    followed = map_event(raw, normalizer(0), InMemoryState(), 6)
    assert followed.error == code
    (letter,) = followed.records
    assert (letter.value is not None) == kept
    assert SECRET.encode() not in (letter.value or b"") + repr(letter.headers).encode()


def test_a_repeated_key_hides_no_secret_in_a_letter() -> None:
    body = f'{{"type": "patient_report_sent", "pass_code": "{SECRET}", "pass_code": "", "occurred_on": 1717243500}}'
    raw = ConsumerRecord("raw.mediquo", 0, 0, 0, b"k", body.encode(), [])
    position = next(place for place, case in enumerate(CASES) if case.vendor == "mediquo")
    records = map_event(raw, normalizer(position), InMemoryState(), 6).records
    letters = [record for record in records if record.topic.startswith("dead-letter.")]
    assert letters, "the event names no patient"
    check(list(records), [])
