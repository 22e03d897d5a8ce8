"""The fields that route events, and values that look like secrets, are found by names and values, with a reason."""

from typing import Any

import pytest

from fhirline.config.errors import ConfigurationError
from fhirline.streams.authoring import guesses
from fhirline.streams.authoring.guesses import Secret
from fhirline.streams.authoring.samples import Sample


def samples(*bodies: dict[str, Any]) -> list[Sample]:
    return [Sample(f"sample {number}", body) for number, body in enumerate(bodies)]


@pytest.mark.parametrize(
    ("bodies", "pointer"),
    [
        ([{"event": "x"}], "/event"),
        ([{"eventType": "x"}], "/eventType"),
        ([{"meta": {"event-name": "x"}, "data": {}}], "/meta/event-name"),
        ([{"type": "webhook", "action": "a"}, {"type": "webhook", "action": "b"}], "/action"),
        ([{"type": "a", "data": {"type": "b"}}], "/type"),
        ([{"event": "a", "topic": "b"}, {"topic": "b"}], "/topic"),
    ],
)
def test_the_event_field_is_found(bodies: list[dict[str, Any]], pointer: str) -> None:
    assert guesses.event_field(samples(*bodies)).pointers == (pointer,)


@pytest.mark.parametrize(
    "bodies",
    [
        [{"what": "visit_done"}],
        [{"event": 5}],
        [{"event": "a"}, {"what": "b"}],
        [{"event": {"id": "x"}}],
        [{"event": "line\nbreak"}],
        [{"event": "a `name` | of a table"}],
        [{"events": [{"event": "x"}]}],
    ],
)
def test_without_an_event_field_the_option_is_named(bodies: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigurationError, match=r"^--event-field: no field is named like an event's type"):
        guesses.event_field(samples(*bodies))


def test_the_texts_that_every_sample_has_are_offered() -> None:
    with pytest.raises(ConfigurationError, match=r"texts that every sample has: /what, /who/is\)$"):
        guesses.event_field(samples({"what": "a", "who": {"is": "x"}, "x": "y"}, {"what": "b", "who": {"is": "z"}}))


@pytest.mark.parametrize(
    ("bodies", "pointers"),
    [
        ([{"patient": {"id": "P-1"}}], ("/patient/id",)),
        ([{"patientId": 7}], ("/patientId",)),
        ([{"subject": {"memberNo": "M-1"}}], ("/subject/memberNo",)),
        ([{"data": {"user_uuid": "u", "patient": {"code": "c", "id": "i"}}}], ("/data/patient/id",)),
        ([{"user_id": 1}, {"user_id": 2, "patient_id": 3}, {"user_id": 4}], ("/patient_id", "/user_id")),
        ([{"patient": {"id": 1}}, {"client_id": 1}], ("/patient/id", "/client_id")),
        ([{"patient": "P-1"}], ("/patient",)),
        ([{"patient": "Ann Example"}], ()),
        ([{"patient": {"name": "Ann"}, "id": "P-1"}], ()),
        ([{"patients": [{"id": "P-1"}]}], ()),
        ([{"patient": {"id": None}}], ()),
        ([{"patient": {"id": True}}], ()),
    ],
)
def test_the_patient_field_is_found(bodies: list[dict[str, Any]], pointers: tuple[str, ...]) -> None:
    assert guesses.patient_field(samples(*bodies)).pointers == pointers


def test_without_a_patient_field_the_values_that_every_sample_has_are_offered() -> None:
    found = guesses.patient_field(samples({"kind": "a", "who": {"is": 7}, "x": 1}, {"kind": "b", "who": {"is": 8}}))
    reason = "no field is named like a patient's id; texts and numbers that every sample has: /kind, /who/is"
    assert (found.pointers, found.reason) == ((), reason)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"sent_at": "2024-05-02T10:31:07Z", "created_at": "2024-05-02T10:31:07Z"}, ("/sent_at",)),
        ({"createdAt": "2024-05-02T10:31:07.123+02:00"}, ("/createdAt",)),
        ({"timestamp": 1_714_645_867}, ("/timestamp",)),
        ({"timestamp": 1_714_645_867_000}, ("/timestamp",)),
        ({"timestamp": 5, "data": {"date": "2024-05-02T10:31:07Z"}}, ("/data/date",)),
        ({"sent_at": "2024-05-02 10:31:07"}, ()),
        ({"birthday": "2024-05-02T10:31:07Z"}, ()),
    ],
)
def test_the_time_field_is_found(body: dict[str, Any], pointers: tuple[str, ...]) -> None:
    assert guesses.time_field(samples(body)).pointers == pointers


def test_a_time_without_a_zone_is_named() -> None:
    assert guesses.time_field(samples({"sent_at": "2024-05-02 10:31:07"})).reason.endswith("(without a zone: /sent_at)")


def test_others_are_named_beside_the_guess() -> None:
    found = guesses.patient_field(samples({"patient": {"id": 1, "code": "x"}}))
    assert found.reason == "named like a patient's id, in the sample (others: /patient/code)"


@pytest.mark.parametrize(
    ("pointer", "reason"),
    [
        ("patient", "is no JSON Pointer"),
        ("/nobody", "no sample has a value there"),
        ("/list/0", "what is there is no text or number, or is in a list"),
        ("/object", "what is there is no text or number, or is in a list"),
    ],
)
def test_a_pointer_that_leads_to_no_value_is_refused(pointer: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--patient-field: .*{reason}"):
        guesses.given("--patient-field", [pointer], samples({"list": ["x"], "object": {"a": 1}}))


def test_what_looks_like_a_secret_is_found() -> None:
    body = {
        "token": "t",
        "passCode": "p",
        "patient": {"key": "P-1", "pin": ""},
        "rooms": [{"url": "https://example.org/room"}, {"url": "https://example.org/other"}],
        "pass_code": 7,
        "inventedPin": 4711,
        "spinPins": "no word of a secret",
    }
    assert guesses.find_secrets(samples(body, body), ["/patient/key"]) == [
        Secret("/token", "its key 'token'", False),
        Secret("/passCode", "its key 'passCode'", True),
        Secret("/rooms/*/url", "its value contains '://'", False),
        Secret("/pass_code", "its key 'pass_code'", True),
        Secret("/inventedPin", "its key has the word 'pin'", False, withheld=False),
    ]
