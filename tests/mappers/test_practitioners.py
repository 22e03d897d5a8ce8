"""Events about one professional never make its Practitioner flap: it is folded as a Patient is (mapping.md §3.2)."""

from itertools import permutations, product
from typing import Any

import orjson
import pytest

from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.pipeline.output import Output
from fhirline.mappers.pipeline.practitioner_fold import contributed, decoded, encoded, folded
from fhirline.mappers.results import StateEntries
from tests.support.cases import Case


def mediquo(at: int, **professional: object) -> dict[str, Any]:
    payload = {"consultation": {"id": "c1"}, "patient": {"code": f"p{at}"}, "professional": professional}
    return {"type": "patient_consultation_finished", "occurred_on": 1704063600 + at, "payload": payload}


def azodha(at: int, event: str = "BookAppointment", **provider: object) -> dict[str, Any]:
    providers = {"providers": [provider]} if provider else {}
    ids = {"eventName": event, "patientId": "p1", "appointmentId": "a1"}
    return {**ids, "status": "BOOKED", "timestamp": 1704063600 + at, **providers}


AVATAR, NEWER = "https://image.example.org/1", "https://image.example.org/2"
CASES: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any]]] = {
    "mediquo: a photo in one of the events": (
        "mediquo",
        [
            mediquo(0, id="h", name="Dr A"),
            mediquo(1, id="h", name="Dr A", avatar=AVATAR),
            mediquo(2, hash="h", name="Dr A"),
        ],
        {"name": [{"text": "Dr A"}], "photo": [{"url": AVATAR}]},
    ),
    "mediquo: name and photo change": (
        "mediquo",
        [
            mediquo(0, id="h", name="Dr A", avatar=AVATAR),
            mediquo(1, id="h", name="Dr A", avatar=NEWER),
            mediquo(2, id="h", name="Dr B"),
        ],
        {"name": [{"text": "Dr B"}], "photo": [{"url": NEWER}]},
    ),
    "azodha: each event knows another contact": (
        "azodha",
        [
            azodha(0, id="12", firstName="Sam", lastName="Lee", email="sam@example.com"),
            azodha(1, id="12", firstName="Sam", lastName="Lee", mobileNumber="+1555", phone="+1556"),
            azodha(2, "AppointmentToCareTaskActivityLog", id=12.0, name="Sam Lee"),
        ],
        {
            "name": [{"text": "Sam Lee"}],
            "telecom": [
                {"system": "email", "value": "sam@example.com"},
                {"system": "phone", "value": "+1555"},
                {"system": "phone", "value": "+1556"},
            ],
        },
    ),
    "azodha: an event of the appointment without its providers": (
        "azodha",
        [
            azodha(0, id="12", name="Sam Lee", email="sam@example.com"),
            azodha(1, "HealthProgramActivated", id="12", name="Sam Lee", phone="+1556"),
            azodha(2, "AppointmentToCareTaskActivityLog"),
        ],
        {
            "name": [{"text": "Sam Lee"}],
            "telecom": [{"system": "email", "value": "sam@example.com"}, {"system": "phone", "value": "+1556"}],
        },
    ),
}


def practitioners(vendor: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every Practitioner that is published, in order."""
    return [
        orjson.loads(output.value)
        for result in Case(vendor, "synthetic", tuple(bodies)).run()
        for output in result.outputs
        if output.resource["resourceType"] == "Practitioner"
    ]


@pytest.mark.parametrize("name", CASES)
def test_any_order_ends_in_the_same_practitioner(name: str) -> None:
    vendor, bodies, expected = CASES[name]
    lasts = set()
    for order in permutations(bodies):
        for sent in (order, [item for body in order for item in (body, body)]):
            last = practitioners(vendor, [*sent])[-1]
            assert {member: last[member] for member in expected} == expected
            lasts.add(orjson.dumps(last))
    assert len(lasts) == 1


@pytest.mark.parametrize("name", CASES)
def test_no_event_erases_what_another_sent(name: str) -> None:
    """Once a field is known, every later record has it."""
    vendor, bodies, _ = CASES[name]
    for order in permutations(bodies):
        known: set[str] = set()
        for made in practitioners(vendor, [*order]):
            fields = {"name", *(["photo"] if "photo" in made else [])}
            fields |= {point["system"] for point in made.get("telecom", ())}
            assert known <= fields
            known = fields


@pytest.mark.parametrize("name", CASES)
def test_any_split_over_partitions_ends_in_the_same_practitioner(name: str) -> None:
    """The law of mapping.md §3.2: no order of the events, and no partition that they arrive in, may show."""
    vendor, bodies, expected = CASES[name]
    case = Case(vendor, "synthetic", tuple(bodies))
    together = practitioners(vendor, bodies)[-1]
    assert {member: together[member] for member in expected} == expected
    for order in permutations(case.envelopes()):
        for places in product(range(2), repeat=len(order)):
            normalize, states = case.normalizer(), (InMemoryState(), InMemoryState())
            contributions: dict[str, StateEntries] = {}
            subjects = set()
            for envelope, place in zip(order, places, strict=True):
                updates = normalize(envelope, states[place]).state_updates
                for subject, entries in contributed(updates, states[place]).items():
                    contributions[f"raw.{vendor}/{place}"] = decoded(encoded(entries))
                    subjects.add(subject)
                states[place].apply(updates)
            [subject] = subjects
            made = folded(normalize, vendor, "acme", subject, contributions)
            assert isinstance(made, Output)
            assert made.value == orjson.dumps(together), f"{order} over {places}"


def test_the_bundle_of_a_later_event_has_the_practitioner_as_all_events_made_it() -> None:
    vendor, bodies, expected = CASES["azodha: an event of the appointment without its providers"]
    *_, last = Case(vendor, "synthetic", tuple(bodies)).run()
    [made] = [output.resource for output in last.outputs if output.resource["resourceType"] == "Practitioner"]
    assert made["telecom"] == expected["telecom"]
    [provenance] = [output.resource for output in last.outputs if output.resource["resourceType"] == "Provenance"]
    assert not any(target["reference"].startswith("Practitioner/") for target in provenance["target"])


def test_state_of_an_earlier_version_is_no_field() -> None:
    """Formerly a Practitioner's state was its version alone, under the name ``stamp``."""
    from fhirline.mappers.pipeline.folding import LAST_VERSION, StateUpdate
    from fhirline.mappers.results import Entry, Version

    case = Case("mediquo", "synthetic", (mediquo(0, id="h", name="Dr A"),))
    normalize, state, [envelope] = case.normalizer(), InMemoryState(), case.envelopes()
    fresh = normalize(envelope, state)
    [key] = [output.key for output in fresh.outputs if output.key.startswith("Practitioner/")]
    state.apply([StateUpdate(key, LAST_VERSION, Entry(Version((1, ""), "k"), None))])
    again = normalize(envelope, state)
    assert [output.value for output in again.outputs] == [output.value for output in fresh.outputs]
