"""The three values that route an event are read at JSON Pointers, and an unusable one is as good as none."""

from typing import Any

import pytest

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.routing import patient_at, text_at, time_at, type_at

RECEIVED = "2024-06-01T12:00:00Z"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"a": "x", "b": "y"}, "x"),
        ({"a": " ", "b": "y"}, "y"),
        ({"a": {"c": 1}, "b": 72.0}, "72"),
        ({"a": True, "b": ["y"]}, None),
        ({"a": "tab\u0000", "b": "y"}, "tab"),
        ({}, None),
    ],
)
def test_the_first_text_or_number_is_read(body: dict[str, Any], expected: str | None) -> None:
    assert text_at(body, "/a", "/b") == expected
    assert type_at("/a", "/b")(body, "route") == expected
    assert patient_at("/a", "/b")(body) == (None if expected is None else (expected,))


@pytest.mark.parametrize(
    ("body", "text", "flags"),
    [
        ({"at": "2024-05-02T10:31:07.5+02:00"}, "2024-05-02T10:31:07.5+02:00", ()),
        ({"at": 1_714_645_867}, "2024-05-02T10:31:07Z", ()),
        ({"at": "1714645867.25"}, "2024-05-02T10:31:07.25Z", ()),
        ({"at": 1_714_645_867_000}, "2024-05-02T10:31:07Z", ("timestamp-unit-assumed",)),
        ({"at": None, "other": "2024-05-02T10:31:07Z"}, "2024-05-02T10:31:07Z", ()),
        ({"at": "2024-05-02 10:31:07", "other": 5}, RECEIVED, ("timestamp-invalid",)),
        ({"at": [], "other": True}, RECEIVED, ("timestamp-invalid",)),
        ({"at": "2024-06-02T10:31:07Z"}, "2024-06-02T10:31:07Z", ("future-time",)),
    ],
)
def test_the_first_usable_time_is_read(body: dict[str, Any], text: str, flags: tuple[str, ...]) -> None:
    found = time_at("/at", "/other")(envelope(body))
    assert (found.instant.text, found.flags) == (text, flags)
    assert found.from_received == (text == RECEIVED or "future-time" in flags)


def test_without_pointers_the_vendor_sends_no_time() -> None:
    assert time_at()(envelope({"at": 1_714_645_867})).flags == ("no-event-time",)


def envelope(body: dict[str, Any]) -> Envelope:
    received = Instant.parse(RECEIVED)
    assert received is not None
    return Envelope("v", "acme", received, body, "key")
