"""A word that software writes where an id is missing is no id, of no kind and for no vendor (mapping.md §2.6)."""

from typing import Any

import orjson
import pytest

from fhirline.config import tables
from fhirline.mappers.identity import LONGEST_ID, is_placeholder
from fhirline.mappers.pipeline.normalize import Normalized
from fhirline.mappers.registry import raw_key
from tests.support.cases import Case

PLACEHOLDERS = [
    "undefined",
    "UNDEFINED",
    " null ",
    "None",
    "NaN",
    "N/A",
    "0",
    0,
    0.0,
    -1,
    "-",
    "***",
    "unknown",
    "Desconocido",
    "[object Object]",
    "00000000-0000-0000-0000-000000000000",
    "{{patient.id}}",
    "${userId}",
    "undefined\u0000",
    "\u200bundefined\u200e",
    "n\u200bull",
    "ＮＵＬＬ",
    "٠",
    "００",
    "\u202e",
    "\ufeff",
    "p" * (LONGEST_ID + 1),
]
IDS = ["p" * LONGEST_ID, "p-0", "72", 72, "none-7", "N", "nullius", "10", "a-undefined", "0x1", "Unknown Soldier"]

PATIENTS: dict[str, tuple[dict[str, Any], str]] = {
    "altibbi": (
        {"type": "status_update", "consultation_id": 1, "new_status": "closed", "datetime": "2023-06-15T09:38:50Z"},
        "/user_id",
    ),
    "mediquo": (
        {
            "type": "patient_consultation_finished",
            "occurred_on": 1704063600,
            "payload": {"consultation": {"id": "c1"}, "patient": {}},
        },
        "/payload/patient/code",
    ),
    "azodha": (
        {"eventName": "BookAppointment", "appointmentId": "a1", "status": "BOOKED", "date": "2024-01-15"},
        "/patientId",
    ),
    "infermedica": (
        {
            "event_type": "survey_finished",
            "content": {"survey_id": "s1"},
            "summary": {"patient": {"sex": "female"}, "present_symptoms": [{"id": "s_1", "name": "Cough"}]},
        },
        "/summary/patient/id",
    ),
}
"""Vendor → an event without its patient, and where the patient's id is sent."""


def run(vendor: str, body: dict[str, Any]) -> Normalized:
    return Case(vendor, "synthetic", (body,)).run()[0]


def with_value(body: dict[str, Any], pointer: str, value: object) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(orjson.dumps(body))
    *above, last = pointer.split("/")[1:]
    place = made
    for key in above:
        place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
    place[last] = value
    return made


def types(result: Normalized) -> set[str]:
    return {output.resource["resourceType"] for output in result.outputs}


def flagged(result: Normalized) -> set[str]:
    return {pointer for flag in result.flags if flag.code == "placeholder-id" for pointer in flag.at}


@pytest.mark.parametrize("value", PLACEHOLDERS, ids=repr)
@pytest.mark.parametrize("vendor", PATIENTS)
def test_a_placeholder_is_nobody(vendor: str, value: object) -> None:
    body, pointer = PATIENTS[vendor]
    sent, missing = run(vendor, with_value(body, pointer, value)), run(vendor, body)
    assert "Patient" not in types(sent)
    assert types(sent) == types(missing)
    assert [refusal.resource_type for refusal in sent.refusals] == [
        refusal.resource_type for refusal in missing.refusals
    ]
    assert flagged(sent) == {pointer}
    assert "placeholder" not in " ".join(sent.schema_drift)
    assert pointer not in sent.schema_drift


@pytest.mark.parametrize("value", IDS, ids=repr)
@pytest.mark.parametrize("vendor", PATIENTS)
def test_any_other_word_is_an_id(vendor: str, value: object) -> None:
    body, pointer = PATIENTS[vendor]
    result = run(vendor, with_value(body, pointer, value))
    [patient] = [output.resource for output in result.outputs if output.resource["resourceType"] == "Patient"]
    assert patient["identifier"][0]["value"] == str(value)
    assert flagged(result) == set()


@pytest.mark.parametrize(
    "sent", [" p-1", "p-1\n", "\ufeffp-1", "\u200fp-1\u200e", "p-1\u00a0\u200b", "\u2066p-1\u2069"]
)
@pytest.mark.parametrize("vendor", PATIENTS)
def test_what_is_around_an_id_makes_no_other_patient(vendor: str, sent: str) -> None:
    body, pointer = PATIENTS[vendor]
    named = [Case(vendor, "ids", (with_value(body, pointer, item),)) for item in ("p-1", sent)]
    assert raw_key(named[1].envelopes()[0]) == raw_key(named[0].envelopes()[0])
    patients = [
        [output.value for output in case.run()[0].outputs if output.key.startswith("Patient/")] for case in named
    ]
    identifiers = [[orjson.loads(value)["identifier"] for value in values] for values in patients]
    assert identifiers[0] == identifiers[1] != []


@pytest.mark.parametrize("vendor", PATIENTS)
def test_events_of_nobody_share_no_key(vendor: str) -> None:
    """They are spread by their event keys, and none is a patient of the others."""
    body, pointer = PATIENTS[vendor]
    case = Case(vendor, "synthetic", tuple({**with_value(body, pointer, "undefined"), "n": n} for n in range(2)))
    keys = {raw_key(envelope) for envelope in case.envelopes()}
    if vendor == "infermedica":  # by its survey
        assert keys == {"acme|survey/s1"}
    else:
        assert len(keys) == 2
        assert all(key.startswith("acme|event/") for key in keys)


VISIT = with_value(PATIENTS["mediquo"][0], "/payload/patient/code", "p1")
BOOKING = with_value(PATIENTS["azodha"][0], "/patientId", "p1")
SURVEY = with_value(PATIENTS["infermedica"][0], "/summary/patient/id", "p1")
STATUS = with_value(PATIENTS["altibbi"][0], "/user_id", "p1")
OTHER_KINDS = [
    ("mediquo", VISIT, "/payload/consultation/id", "Encounter"),
    ("mediquo", with_value(VISIT, "/payload/professional/name", "Dr Synthetic"), "/payload/professional/id", None),
    ("mediquo", with_value(VISIT, "/payload/professional/name", "Dr Synthetic"), "/payload/professional/hash", None),
    ("azodha", BOOKING, "/appointmentId", "Appointment"),
    ("azodha", with_value(BOOKING, "/providers", [{"name": "Dr Synthetic"}]), "/providers/0/id", None),
    ("altibbi", STATUS, "/consultation_id", "Encounter"),
    ("infermedica", SURVEY, "/content/survey_id", "QuestionnaireResponse"),
]
"""Vendor, event, place of an id, and the type that is refused without it (None: that is made without it)."""


@pytest.mark.parametrize("value", ["undefined", 0, "none", "00000000-0000-0000-0000-000000000000"], ids=repr)
@pytest.mark.parametrize(("vendor", "body", "pointer", "refused"), OTHER_KINDS, ids=lambda kind: str(kind)[:40])
def test_a_placeholder_is_no_id_of_any_other_kind(
    vendor: str, body: dict[str, Any], pointer: str, refused: str | None, value: object
) -> None:
    result = run(vendor, with_value(body, pointer, value))
    if refused:
        assert refused in {refusal.resource_type for refusal in result.refusals}
        assert refused not in types(result)
    assert "Practitioner" not in types(result)
    assert flagged(result) == {pointer}
    assert all(f'"{value}"'.encode() not in output.value for output in result.outputs)


def test_items_with_placeholder_ids_are_known_by_their_names() -> None:
    """Two allergies of id 0 are two allergies, and keep no identifier."""
    history = [{"id": 0, "name": "Penicilina"}, {"id": "0", "name": "Polen"}]
    prescriptions = [{"id": "null", "active_substances": ["paracetamol"]}]
    body = with_value(with_value(VISIT, "/payload/patient/allergies", history), "/payload/prescriptions", prescriptions)
    result = run("mediquo", body)
    made = [output.resource for output in result.outputs if output.resource["resourceType"] == "AllergyIntolerance"]
    assert sorted(item["code"]["text"] for item in made) == ["Penicilina", "Polen"]
    assert not any("identifier" in item for item in made)
    [request] = [output.resource for output in result.outputs if output.resource["resourceType"] == "MedicationRequest"]
    assert "groupIdentifier" not in request
    assert flagged(result) == {
        "/payload/patient/allergies/0/id",
        "/payload/patient/allergies/1/id",
        "/payload/prescriptions/0/id",
    }


def test_a_placeholder_is_not_the_key_of_a_provider() -> None:
    """Azodha's providers without an id are keyed by their e-mail address."""
    body = with_value(BOOKING, "/providers", [{"name": "Dr Synthetic", "email": "N/A"}])
    assert "Practitioner" not in types(run("azodha", body))


def test_a_number_that_is_not_sent_is_no_coverage() -> None:
    body = {**STATUS, "insurance_id": 0, "policy_number": "N/A"}
    result = run("altibbi", body)
    assert "Coverage" not in types(result)
    assert flagged(result) == {"/insurance_id", "/policy_number"}


def test_a_concept_without_an_id_is_not_coded() -> None:
    """A concept's id is the key of its Observation; a ranked condition has its words only."""
    ranked = {"conditions": [{"id": "undefined", "name": "Influenza", "probability": 0.5}]}
    body = {**with_value(SURVEY, "/summary/present_symptoms/0/id", "undefined"), "evidence_assessment": ranked}
    result = run("infermedica", body)
    assert "Observation" not in types(result)
    [made] = [output.resource for output in result.outputs if output.resource["resourceType"] == "RiskAssessment"]
    assert made["prediction"][0]["outcome"] == {"text": "Influenza"}
    assert flagged(result) == {"/summary/present_symptoms/0/id", "/evidence_assessment/conditions/0/id"}


def test_the_next_place_of_an_azodha_patient_is_used() -> None:
    result = run("azodha", {**BOOKING, "patientId": "undefined", "data": {"patientId": "p7"}})
    [patient] = [output.resource for output in result.outputs if output.resource["resourceType"] == "Patient"]
    assert patient["identifier"][0]["value"] == "p7"
    assert flagged(result) == {"/patientId"}


def test_the_table_has_no_row_that_is_not_needed() -> None:
    table = tables.placeholders()
    words = [word for row in table.rows for word in row.words]
    assert len({word.casefold() for word in words}) == len(words)
    assert all(is_placeholder(word.upper()) for word in words)
    assert not any(map(is_placeholder, map(str, (1, 7, "a", "n", "p-1", "id-0", "7" * 300))))
