"""Azodha's laws (mapping.md §11, §15.7) that no single approved file can show."""

import itertools
import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.pipeline.envelope import event_key
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized, StateUpdate
from fhirline.mappers.registry import raw_key
from tests.support.cases import Case, cases, one_in

NAMES = (
    "AppointmentToCareTaskActivityLog",
    "InferenceToObservations",
    "InferenceToKeyFindings",
    "AssessmentResponseToWellbeingScore",
    "BookAppointment",
    "InferenceToCareTasks",
    "HealthRecordCounter",
    "Notification",
    "HealthProgramActivated",
    "UploadedFileAndTest",
    "SurveyAssessment",
    "OpenTele",
)
NOT_CLINICAL = {"Organization", "Device", "AuditEvent", "Provenance"}
PATIENT = {"patientId": "patient123"}
APPOINTMENT = {"id": 789, "date": "2024-05-15", "startTime": "2024-05-15T10:00:00Z", "status": "BOOKED"}
OUR_CASES = [case for case in cases() if case.vendor in ("azodha", "infermedica")]


def one(body: dict[str, Any], route_event: str | None = None, **settings: Any) -> Normalized:
    return Case("azodha", "inline", (body,), route_event=route_event, settings=settings).run()[0]


def of_type(result: Normalized, resource_type: str) -> list[dict[str, Any]]:
    return [output.resource for output in result.outputs if output.resource["resourceType"] == resource_type]


def flags(result: Normalized) -> set[str]:
    return {flag.code for flag in result.flags}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", ["empty", "data", "route"])
def test_every_name_without_content_makes_nothing_clinical_and_says_so(name: str, shape: str) -> None:
    shapes: dict[str, dict[str, Any]] = {
        "empty": {"eventName": name},
        "data": {"eventName": name, "data": {}},
        "route": {},
    }
    body = shapes[shape]
    result = one(body, name if shape == "route" else None)
    assert {output.resource["resourceType"] for output in result.outputs} <= NOT_CLINICAL
    assert result.outcome is not None
    assert result.event_type == name


def test_the_route_decides_against_the_body() -> None:
    assert one({"eventName": "OpenTele", **PATIENT}, "HealthRecordCounter").event_type == "HealthRecordCounter"


@pytest.mark.parametrize("name", ["InferenceToObservations", "InferenceToKeyFindings", "InferenceToCareTasks"])
@pytest.mark.parametrize("prompts", [[{"promptId": "p", "text": "SECRET"}], ["SECRET"], "SECRET", {"text": "SECRET"}])
def test_no_prompt_and_no_finding_leaves_the_raw_store(name: str, prompts: Any) -> None:
    given = {"inputData": {"files": ["SECRET"]}, "observations": [{"v": "SECRET"}], "careTasks": ["SECRET"]}
    data = {**PATIENT, "goals": ["SECRET"], "keyFindings": ["SECRET"], "prompts": prompts}
    result = one({"event": name, **given, "prompts": prompts, "data": data})
    assert len(of_type(result, "AuditEvent")) == 1
    assert {output.resource["resourceType"] for output in result.outputs} <= NOT_CLINICAL
    assert "ai-result-not-promoted" in flags(result)
    assert not any(b"SECRET" in output.value for output in result.outputs)


def as_remembered(statement: StateUpdate) -> StateUpdate:
    """A statement as the state topic gives it back."""
    entry = statement.entry
    return statement._replace(entry=entry._replace(value=orjson.loads(orjson.dumps(entry.value))))


def fold(events: list[dict[str, Any]]) -> bytes:
    case = Case("azodha", "fold", tuple(events))
    normalize, memory, stored = case.normalizer(), InMemoryState(), b""
    for body in events:
        result = normalize(case.envelope(body), memory)
        memory.apply([as_remembered(update) for update in result.state_updates])
        for output in result.outputs:
            if output.resource["resourceType"] == "Appointment":
                stored = output.value
    return stored


def test_an_appointment_is_the_same_in_any_order_of_its_events() -> None:
    log = "AppointmentToCareTaskActivityLog"
    events: list[dict[str, Any]] = [
        {"eventName": "BookAppointment", "timestamp": "2024-05-01T08:00:00Z", **PATIENT, **APPOINTMENT},
        {"eventName": "Notification", "timestamp": "2024-05-15T09:55:00Z"}
        | {"data": {"patientName": "Ana Diaz", "appointment": {"id": 789, **PATIENT, "status": "LOBBY"}}},
        {"eventName": log, "timestamp": "2024-05-10T08:00:00Z", **PATIENT}
        | {"appointment": {"id": 789, "status": "RESCHEDULED", "startTime": "2024-05-15T11:00:00Z"}},
        {"eventName": log, "timestamp": "2024-05-20T08:00:00Z", **PATIENT}
        | {"appointment": {"id": 789, "status": "CANCELLED", "cancellationReason": "ill"}},
        {"eventName": log, "timestamp": "2024-05-20T08:00:00Z", **PATIENT}
        | {"appointment": {"id": 789, "durationInMinutes": 20}},
    ]
    found = {fold([*order, order[0]]) for order in itertools.permutations(events)}
    assert len(found) == 1
    appointment = json.loads(found.pop())
    assert (appointment["status"], appointment["start"]) == ("cancelled", "2024-05-15T11:00:00Z")
    assert appointment["minutesDuration"] == 20
    assert fold(events[:3]) == fold(events[2::-1])
    assert json.loads(fold(events[:3]))["status"] == "arrived"


@pytest.mark.parametrize("status", ["CANCELLED", "COMPLETED", "NO_SHOW", "ARRIVED"])
def test_the_waiting_room_undoes_no_status_that_it_cannot_follow(status: str) -> None:
    booked = {"eventName": "BookAppointment", "timestamp": "2024-05-01T08:00:00Z", **PATIENT}
    waits: dict[str, Any] = {"eventName": "Notification", "timestamp": "2024-05-02T08:00:00Z"}
    waits |= {"data": {"patientName": "Ana", "appointment": {"id": 789, **PATIENT}}}
    alone = json.loads(fold([booked | APPOINTMENT | {"status": status}]))
    assert json.loads(fold([booked | APPOINTMENT | {"status": status}, waits]))["status"] == alone["status"]


@pytest.mark.parametrize(
    "body",
    [
        {**PATIENT, **APPOINTMENT},
        {"data": {**PATIENT, **APPOINTMENT}},
        {"data": {"appointment": {**PATIENT, **APPOINTMENT}}},
        {"data": {"patient": {"id": "patient123"}, "appointment": APPOINTMENT}},
        {**PATIENT, "appointment": APPOINTMENT},
    ],
)
def test_a_field_means_the_same_wherever_it_stands(body: dict[str, Any]) -> None:
    appointment, reference = (
        of_type(one({"eventName": "BookAppointment", **item}), "Appointment")[0]
        for item in (body, {**PATIENT, **APPOINTMENT})
    )
    assert appointment == reference


def test_one_patient_one_partition() -> None:
    case = Case("azodha", "keys", ({},))
    bodies: list[dict[str, Any]] = [
        {"patientId": 5},
        {"patientId": "", "data": {"patientId": "5"}},
        {"data": {"patient": {"id": 5}}},
        {"data": {"appointment": {"patientId": "5"}}, "fileId": "x"},
    ]
    assert {raw_key(case.envelope(body)) for body in bodies} == {"acme|5"}
    assert raw_key(case.envelope({"fileId": "100/a.pdf"})) == "acme|file/100%2Fa.pdf"


def test_a_confirmed_payload_is_not_tagged_as_unconfirmed() -> None:
    body = {"eventName": "BookAppointment", **PATIENT, **APPOINTMENT, "participants": [{"id": 1, "name": "Sam"}]}
    constants = {"Organization", "Device"}
    tagged = {output.resource["resourceType"] for output in one(body).outputs if b"schema-unconfirmed" in output.value}
    assert tagged == {"Practitioner", "Patient", "Appointment", "Provenance"}
    assert not tagged & constants
    confirmed = one(body, payload_confirmed=("BookAppointment",))
    assert not any(b"schema-unconfirmed" in output.value for output in confirmed.outputs)


def test_the_counter_has_no_clinical_content() -> None:
    result = one({"eventName": "HealthRecordCounter", **PATIENT, "count": 7})
    assert result.outputs == ()
    assert flags(result) == {"no-clinical-content"}


def test_an_echoed_score_is_no_observation() -> None:
    patient = {"id": "patient123", "wellbeingScore": 5, "score": 7}
    result = one({"eventName": "SurveyAssessment", "data": {"patient": patient, "assessment": {"id": 1}}})
    assert of_type(result, "Observation") == []
    assert {leaf.pointer for leaf in result.ledger if leaf.unplaced} == {
        "/data/patient/wellbeingScore",
        "/data/patient/score",
    }


def rewritten(value: Any, pointer: str, new: Any) -> Any:
    """A copy of ``value`` with another leaf at ``pointer``."""
    if not pointer:
        return new
    head, _, rest = pointer[1:].partition("/")
    rest = f"/{rest}" if rest else ""
    if isinstance(value, list):
        return [rewritten(item, rest, new) if str(n) == head else item for n, item in enumerate(value)]
    key = head.replace("~1", "/").replace("~0", "~")
    return {name: rewritten(item, rest, new) if name == key else item for name, item in value.items()}


def said(result: Normalized) -> list[bytes]:
    """All that leaves: resources, and the outcome without the list of places."""
    return [*(output.value for output in result.outputs), result.outcome.value if result.outcome else b""]


@pytest.mark.parametrize("case", one_in(3, OUR_CASES), ids=lambda case: f"{case.vendor}/{case.name}")
def test_what_is_called_mapped_shows_in_the_output(case: Case) -> None:
    """Perturb each leaf that the ledger calls mapped, under the same event key: something else must come out."""
    normalize = case.normalizer()
    for envelope in case.envelopes():
        before = normalize(envelope, InMemoryState())
        for leaf in before.ledger:
            if leaf.treatment != "mapped" or leaf.value is None:
                continue
            new: Any = not leaf.value if isinstance(leaf.value, bool) else f"{leaf.value}~changed"
            if isinstance(leaf.value, int | float) and not isinstance(leaf.value, bool):
                new = leaf.value / 2 + 3 + (leaf.value == 6)  # 6.0 would be the same id
            after = normalize(replace(envelope, body=rewritten(envelope.body, leaf.pointer, new)), InMemoryState())
            assert said(after) != said(before), f"{leaf.pointer} is called mapped, but nothing depends on it"


@pytest.mark.parametrize("case", OUR_CASES, ids=lambda case: f"{case.vendor}/{case.name}")
def test_the_ledger_accounts_for_every_leaf_and_what_it_keeps_is_there(case: Case) -> None:
    for envelope, result in zip(case.envelopes(), case.run(), strict=True):
        if result.event_type == "unknown" or {"not-supported"} & flags(result):
            continue
        assert [leaf.pointer for leaf in result.ledger] == [pointer for pointer, _ in leaves_of(envelope.body)]
        out = b"".join(output.value for output in result.outputs)
        for leaf in result.ledger:
            if leaf.treatment == "kept" and result.outputs:
                assert b'"path","valueString":' + orjson.dumps(leaf.pointer) in out, leaf.pointer


def references(value: Any) -> set[str]:
    """All literal references at or below a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {value["reference"]} if isinstance(value, dict) and isinstance(value.get("reference"), str) else set()
    return own.union(*map(references, inner))


@pytest.mark.parametrize("case", OUR_CASES, ids=lambda case: f"{case.vendor}/{case.name}")
def test_an_event_carries_all_that_it_refers_to(case: Case) -> None:
    for result in case.run():
        stale = {place for flag in result.flags if flag.code == "stale-event" for place in flag.at}
        keys = [output.key for output in result.outputs]
        assert len(keys) == len(set(keys))
        assert references([output.resource for output in result.outputs]) <= {*keys, *stale}


JUNK: tuple[Any, ...] = (
    None,
    "",
    " ",
    0,
    -1,
    1e300,
    2**63,
    True,
    [],
    {},
    [[]],
    [None],
    {"id": {}},
    "x" * 9_999,
    "\u202e\u05e9\u05dc\u05d5\u05dd",
)


@pytest.mark.parametrize("case", one_in(6, OUR_CASES), ids=lambda case: f"{case.vendor}/{case.name}")
def test_junk_anywhere_is_survived(case: Case) -> None:
    """Replace each leaf, and each container around it, by every kind of junk: valid outputs, a whole ledger."""
    normalize = case.normalizer()
    for envelope in case.envelopes():
        pointers = {pointer for pointer, _ in leaves_of(envelope.body)}
        pointers |= {pointer.rpartition("/")[0] for pointer in pointers}
        for number, pointer in enumerate(sorted(pointers - {""})):
            for new in (JUNK[number % len(JUNK)], JUNK[(number * 7 + 3) % len(JUNK)]):
                body = rewritten(envelope.body, pointer, new)
                result = normalize(replace(envelope, body=body, event_key=event_key(body)), InMemoryState())
                assert [refusal for refusal in result.refusals if refusal.code == "resource-invalid"] == []
                assert result.outputs or result.outcome
