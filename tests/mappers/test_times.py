"""One reader of times for all vendors: usual forms, and times that cannot be (mapping.md §3.3, §3.4)."""

from typing import Any

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.normalize import Normalized
from tests.support.cases import RECEIVED_AT, Case

READABLE = {
    "2024-01-01T10:00:00+0000": "2024-01-01T10:00:00+00:00",
    "2024-01-01T10:00:00+00": "2024-01-01T10:00:00+00:00",
    "2024-01-01 10:00:00 UTC": "2024-01-01T10:00:00Z",
    "2024-01-01 10:00:00utc": "2024-01-01T10:00:00Z",
    "2024-01-01T10:00:00 gmt": "2024-01-01T10:00:00Z",
    "2024-01-01t10:00:00z": "2024-01-01T10:00:00Z",
    "2024-01-01T10:00Z": "2024-01-01T10:00:00Z",
    "2024-01-01 10:00+02": "2024-01-01T10:00:00+02:00",
    "2024-01-01T10:00-0330": "2024-01-01T10:00:00-03:30",
    "2024-01-01  10:00:00,250 +01:00": "2024-01-01T10:00:00.250+01:00",
    "2024-01-01 10:00:00 +0000 UTC": "2024-01-01T10:00:00+00:00",
    "2024-01-01 10:00:00.123456789 +0200 CEST": "2024-01-01T10:00:00.123456789+02:00",
    "2024-01-01T10:00:00+02:00[Europe/Paris]": "2024-01-01T10:00:00+02:00",
    "2024-01-01T10:00:00Z[UTC]": "2024-01-01T10:00:00Z",
    "2024-01-01T10:00:00UTC+2": None,
    "2024-01-01T10:00:00GMT+0200": "2024-01-01T10:00:00+02:00",
    " 2024-01-01T10:00:00Z ": "2024-01-01T10:00:00Z",
    "2024-01-01T10:00:00Z": "2024-01-01T10:00:00Z",
    "2024-01-01T10:00:00+15:00": None,
    "2024-01-01T10:00:00+01:60": None,
    "2024-02-30T10:00:00Z": None,
    "2024-01-01T25:00:00Z": None,
    "2024-01-01T10:00:60Z": None,
    "2024-01-01T10Z": None,
    "2024-01-01": None,
    "2024-01-01T10:00:00CET": None,
    "٢٠٢٤-٠١-٠١T١٠:٠٠:٠٠Z": "2024-01-01T10:00:00Z",
    "२०२४-०१-०१ १०:०० +05:30": "2024-01-01T10:00:00+05:30",
    "\u200f2024-01-01T10:00:00\u200eZ": "2024-01-01T10:00:00Z",
    "\ufeff2024-01-01T10:00:00Z": "2024-01-01T10:00:00Z",
    "2024-01-01T10:00:00\u221203:00": "2024-01-01T10:00:00-03:00",
    "²024-01-01T10:00:00Z": None,
    "2024/01/05 10:00:00Z": "2024-01-05T10:00:00Z",
    "2024.1.5 9:30 UTC": "2024-01-05T09:30:00Z",
    "2024-1-5T9:30+01": "2024-01-05T09:30:00+01:00",
    "2024\u201101\u201105 10:00Z": "2024-01-05T10:00:00Z",
    "20240105T093000.5Z": "2024-01-05T09:30:00.5Z",
    "20240105t0930+0100": "2024-01-05T09:30:00+01:00",
    "Fri, 05 Jan 2024 09:30:00 GMT": "2024-01-05T09:30:00Z",
    "Friday, 05-Jan-24 09:30:00 GMT": None,
    "5 Jan 2024 09:30:00 +0100 (CET)": "2024-01-05T09:30:00+01:00",
    "Fri Jan 05 2024 09:30:00 GMT+0100 (hora estándar de Europa central)": "2024-01-05T09:30:00+01:00",
    "Fri Jan 5 09:30:00 UTC 2024": None,
    "05 Ene 2024 09:30:00 GMT": None,
    "05/01/2024 10:00:00Z": None,
    "05.01.2024 10:00:00Z": None,
    "2024/01-05 10:00:00Z": None,
    "2024-01-05 9:30 PM": None,
    "20240105": None,
    "20240105T0930": None,
    "202401050930Z": None,
    "1704103200 UTC": None,
    "2024/1/5 9:30-10:30": None,
    "5 Jan 2024 09:30-10:00": None,
    "2024-01-05 09:30\u201310:00": None,
    "2024\u201301\u201305 09:30Z": "2024-01-05T09:30:00Z",
    "2567/01/05 09:30Z": None,
    "1445/05/06 09:30Z": None,
    "mar 05 Mar 2024 09:30Z": None,
}
ZONED = {sent: text for sent, text in READABLE.items() if text}
IMPOSSIBLE = ["0001-01-01T00:00:00Z", "0000-00-00 00:00:00", "9999-12-31T23:59:59Z", "1899-12-31T00:00:00+0000"]


@pytest.mark.parametrize("sent", READABLE)
def test_a_date_time_with_a_zone_is_read_in_every_usual_form(sent: str) -> None:
    read = Instant.parse(sent)
    assert (read.text if read else None) == READABLE[sent]
    if read:
        assert read == Instant.parse(read.text)


def run(vendor: str, *bodies: dict[str, Any], **settings: Any) -> list[Normalized]:
    return Case(vendor, "synthetic", bodies, settings=settings).run()


def resource(result: Normalized, resource_type: str) -> dict[str, Any]:
    [found] = [output.resource for output in result.outputs if output.resource["resourceType"] == resource_type]
    return found


def kept(element: dict[str, Any] | None) -> list[tuple[str, str]]:
    """(path, value) of each ``source-value`` of a companion."""
    found = []
    for extension in (element or {}).get("extension", ()):
        if extension["url"].endswith("/source-value"):
            parts = {part["url"]: part.get("valueString") for part in extension["extension"]}
            found.append((parts["path"], parts["value"]))
    return found


EVENTS: dict[str, tuple[dict[str, Any], str]] = {
    "altibbi": ({"type": "status_update", "consultation_id": 72, "user_id": 1, "new_status": "closed"}, "datetime"),
    "azodha": ({"eventName": "BookAppointment", "appointmentId": "a1", "patientId": "p1"}, "timestamp"),
    "mediquo": (
        {
            "type": "patient_consultation_finished",
            "payload": {"consultation": {"id": "c1"}, "patient": {"code": "p1"}},
        },
        "occurred_on",
    ),
}


@pytest.mark.parametrize("sent", ZONED)
@pytest.mark.parametrize("vendor", EVENTS)
def test_every_vendors_event_time_is_read_by_one_reader(vendor: str, sent: str) -> None:
    """The value as sent is kept where it differs from what is emitted."""
    body, name = EVENTS[vendor]
    result = run(vendor, {**body, name: sent})[0]
    provenance = resource(result, "Provenance")
    assert provenance["occurredDateTime"] == ZONED[sent]
    assert not {"timestamp-invalid", "no-event-time"} & {flag.code for flag in result.flags}
    if sent != ZONED[sent]:
        assert f'"{sent.strip()}'.encode() in orjson.dumps(provenance["extension"]).replace(b'" ', b'"')


@pytest.mark.parametrize("sent", [1_704_103_200, "1704103200", 1_704_103_200_000])
@pytest.mark.parametrize("vendor", EVENTS)
def test_every_vendors_event_time_may_be_a_unix_time(vendor: str, sent: int | str) -> None:
    body, name = EVENTS[vendor]
    assert resource(run(vendor, {**body, name: sent})[0], "Provenance")["occurredDateTime"] == "2024-01-01T10:00:00Z"


@pytest.mark.parametrize("sent", [*IMPOSSIBLE, "1970-01-01T00:00:00Z", "2024-01-01T10:00:00", "soon", 0, -1, True])
@pytest.mark.parametrize("vendor", EVENTS)
def test_an_event_time_that_cannot_be_is_replaced_by_the_receipt(vendor: str, sent: object) -> None:
    body, name = EVENTS[vendor]
    result = run(vendor, {**body, name: sent})[0]
    assert resource(result, "Provenance")["occurredDateTime"] == RECEIVED_AT
    assert {"timestamp-invalid", "no-event-time"} & {flag.code for flag in result.flags}
    assert orjson.dumps(sent).strip(b'"') in orjson.dumps(resource(result, "Provenance")["extension"])


def visit(**consultation: object) -> dict[str, Any]:
    patient = {"code": "p1"}
    payload = {"consultation": {"id": "c1", **consultation}, "patient": patient}
    return {"type": "patient_consultation_finished", "occurred_on": 1704063600, "payload": payload}


@pytest.mark.parametrize("sent", ZONED)
def test_a_date_time_of_the_content_is_read_by_the_same_reader(sent: str) -> None:
    period = resource(run("mediquo", visit(start_date=sent))[0], "Encounter")["period"]
    assert period["start"] == ZONED[sent]
    text = sent.strip()  # white space around a string is no part of it (mapping.md §2.4)
    source = [("/payload/consultation/start_date", text)] if text != ZONED[sent] else []
    assert kept(period.get("_start")) == source


@pytest.mark.parametrize("sent", ["2024-01-01T10:00", "2024-01-01t10:00:00", "2024-01-01 10:00:00"])
def test_a_date_time_without_a_zone_is_in_the_tenants(sent: str) -> None:
    period = resource(run("mediquo", visit(start_date=sent), source_time_zone="Europe/Madrid")[0], "Encounter")[
        "period"
    ]
    assert period["start"] == "2024-01-01T10:00:00+01:00"
    assert kept(period["_start"]) == [("/payload/consultation/start_date", sent)]


@pytest.mark.parametrize("sent", [*IMPOSSIBLE, "0001-01-01T00:00:00", "0000-00-00", "2200-01-01", "9999-12-31 00:00"])
def test_an_impossible_time_is_no_value(sent: str) -> None:
    result = run("mediquo", visit(start_date=sent, end_date="2024-01-01T11:00:00Z"))[0]
    encounter = resource(result, "Encounter")
    assert "start" not in encounter["period"]
    assert encounter["period"]["end"] == "2024-01-01T11:00:00Z"
    assert kept(encounter["period"]["_start"]) == [("/payload/consultation/start_date", sent)]
    assert "timestamp-invalid" in {tag["code"] for tag in encounter["meta"]["tag"]}
    assert result.refusals == ()


@pytest.mark.parametrize("sent", IMPOSSIBLE)
def test_an_impossible_time_of_a_calendar_refuses_its_slot(sent: str) -> None:
    payload = {
        "id": "b1",
        "professional": {"id": "h", "name": "Dr Synthetic"},
        "starts_at": sent,
        "finishes_at": "2024-01-01T11:00:00+0000",
    }
    body = {"type": "professional_block_created", "occurred_on": 1704063600, "payload": payload}
    assert [refusal.resource_type for refusal in run("mediquo", body)[0].refusals] == ["Slot"]
    body["payload"] = {**payload, "starts_at": "2024-01-01 10:00 UTC"}
    slot = resource(run("mediquo", body)[0], "Slot")
    assert (slot["start"], slot["end"]) == ("2024-01-01T10:00:00Z", "2024-01-01T11:00:00+00:00")


def booking(**content: object) -> dict[str, Any]:
    return {"eventName": "BookAppointment", "appointmentId": "a1", "patientId": "p1", "status": "BOOKED", **content}


@pytest.mark.parametrize(
    ("content", "start"),
    [
        ({"date": "2025-01-15T00:00:00.000Z", "startTime": "10:00"}, "2025-01-15T10:00:00-05:00"),
        ({"date": "2025-01-15T05:00:00Z", "startTime": "10:00"}, "2025-01-15T10:00:00-05:00"),  # midnight there
        ({"date": "2025-01-16T04:00:00+0000", "startTime": "10:00"}, "2025-01-16T10:00:00-05:00"),
        ({"date": "2025-01-15T04:00:00+00", "startTime": "10:00:30"}, "2025-01-15T10:00:30-05:00"),
        ({"date": "2025-01-15 00:00", "startTime": "10:00z"}, "2025-01-15T10:00:00Z"),
        ({"date": "2025-01-15", "startTime": "10:00 UTC"}, "2025-01-15T10:00:00Z"),
        ({"date": "2025-01-15", "startTime": "10:00+0100"}, "2025-01-15T10:00:00+01:00"),
        ({"date": "2020-01-01", "startTime": "2025-01-15 10:00 gmt"}, "2025-01-15T10:00:00Z"),
        ({"date": "0001-01-01T00:00:00Z", "startTime": "10:00"}, None),
        ({"date": "9999-12-31T23:59:59Z", "startTime": "10:00"}, None),
        ({"date": "soon", "startTime": "10:00"}, None),
    ],
)
def test_azodhas_date_may_be_a_date_time(content: dict[str, object], start: str | None) -> None:
    result = run("azodha", booking(timeZone="America/New_York", **content))[0]
    appointment = resource(result, "Appointment")
    assert appointment.get("start") == start
    sent = {value for _, value in kept(appointment["_start"])}
    assert str(content["startTime"]) in sent
    if start is None:
        assert str(content["date"]) in sent


def test_midnight_written_in_another_zone_is_that_date() -> None:
    """23:00Z is midnight in Madrid: the next day."""
    sent = booking(date="2025-01-14T23:00:00.000Z", startTime="10:00", timeZone="Europe/Madrid")
    assert resource(run("azodha", sent)[0], "Appointment")["start"] == "2025-01-15T10:00:00+01:00"


@pytest.mark.parametrize(
    ("sent", "born"),
    [
        ("1984-02-29", "1984-02-29"),
        ("1984-02-29T00:00:00.000Z", "1984-02-29"),
        ("1984-02-29 00:00", "1984-02-29"),
        ("1984-02-28T23:00:00Z", None),
        ("1984-02-30", None),
        ("29/02/1984", None),
        ("2024-06-02", "2024-06-02"),  # tomorrow, where the day has begun
    ],
)
def test_a_date_of_birth_is_a_date(sent: str, born: str | None) -> None:
    patient = resource(run("azodha", booking(birthDate=sent))[0], "Patient")
    assert patient.get("birthDate") == born
    assert kept(patient.get("_birthDate")) == ([("/birthDate", sent)] if born and born != sent else [])


@pytest.mark.parametrize("sent", ["0001-01-01", "0000-00-00", "1899-12-31", "2024-06-03", "2999-01-01T00:00:00Z"])
def test_an_impossible_date_of_birth_is_no_value(sent: str) -> None:
    result = run("azodha", booking(birthDate=sent))[0]
    patient = resource(result, "Patient")
    assert "birthDate" not in patient
    assert kept(patient["_birthDate"]) == [("/birthDate", sent)]
    assert "timestamp-invalid" in {tag["code"] for tag in patient["meta"]["tag"]}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_impossible_date_of_birth_erases_no_other(order: tuple[int, int]) -> None:
    events = [
        booking(birthDate="1984-02-29", timestamp="2024-01-01T10:00:00Z"),
        booking(birthDate="0001-01-01", timestamp="2024-01-02T10:00:00Z"),
    ]
    patient = resource(run("azodha", *(events[position] for position in order))[-1], "Patient")
    assert patient["birthDate"] == "1984-02-29"
    assert "_birthDate" not in patient
    assert "timestamp-invalid" not in {tag["code"] for tag in patient["meta"]["tag"]}


@pytest.mark.parametrize("sent", ["2024-01-01T10:00:00+0000", "2024-01-01 10:00 UTC"])
def test_azodhas_other_times_keep_what_was_sent(sent: str) -> None:
    survey = {
        "eventName": "SurveyAssessment",
        "patientId": "p1",
        "assessment": {"id": "s1", "assessmentResponseId": "r1", "completedAt": sent},
    }
    response = resource(run("azodha", survey)[0], "QuestionnaireResponse")
    read = Instant.parse(sent)
    assert read is not None
    assert response["authored"] == read.text
    assert kept(response["_authored"]) == [("/assessment/completedAt", sent)]
    score = {"eventName": "AssessmentResponseToWellbeingScore", "patientId": "p1", "score": 7, "computedAt": sent}
    observation = resource(run("azodha", score)[0], "Observation")
    assert observation["effectiveDateTime"] == read.text
    assert kept(observation["_effectiveDateTime"]) == [("/computedAt", sent)]


def test_a_report_sent_at_two_times_is_two() -> None:
    """Its key has the time, also where that is a text; one instant in two notations is one."""
    content = {"type": "soap", "content": {"plan": "rest"}, "patient": {"code": "p1"}}
    times = ("2024-01-01T10:00:00Z", "2024-01-01T11:00:00Z", "2024-01-01T12:00:00+0100", 1_704_106_800)
    bodies = [{"type": "patient_report_sent", "occurred_on": time, "payload": content} for time in times]
    ids = [resource(result, "Composition")["id"] for body in bodies for result in run("mediquo", body)]
    assert ids[0] != ids[1] == ids[2] == ids[3]
