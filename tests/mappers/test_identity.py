"""Ids are those of mapping.md §4.1, and plain UUIDv5s for anybody who computes them elsewhere."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirline.mappers.identity import Naming, decimal_text, escape_part, key, norm
from fhirline.mappers.routing import text_at
from tests.support.cases import Case

BASE = "https://fhirline.example.org"
NS = UUID("4916c8fc-1b8e-5deb-8e98-1993330ff203")

VECTORS = """
mediquo|acme|Patient|patient|patient_code 78a9d77f-7aa6-59a9-a9a6-9d7b822e83bd
mediquo|acme|Practitioner|professional|hash c8ab06d6-a58c-583d-a1ed-d0e494ec0af3
mediquo|acme|Encounter|consultation|patient_code/id_consultation 4f39be07-b372-5b96-9409-21f846663147
mediquo|acme|AllergyIntolerance|allergy|patient_code/allergy-2-id 0fe96729-a81e-52bf-87d1-6cfd04bc91b1
mediquo|acme|Condition|disease|patient_code/allergy-2-id 490cc3b5-bcd7-57fd-8753-f15331a3227c
mediquo|acme|MedicationRequest|prescription|patient_code/prescription-1-id/substance_1 \
  b2f8b4fb-c31a-5e90-be7e-d9b5b6782d51
altibbi|acme|Patient|user|1 ed51dc6d-21a2-5226-8e76-f70c1eefdde8
altibbi|acme|Encounter|consultation|1/72 2b255f9d-8fb0-5341-a3c7-c91e6b6af3cf
altibbi|acme|MedicationRequest|drug|1/72/pimozide/orap forte tab 4 mg/1 3bc9c52f-3874-5e63-a92b-f3a83f21b196
infermedica|acme|QuestionnaireResponse|survey|c7d8d208-3fc1-493a-a260-dc3157bc45e9 eb5aa3a5-c39d-5d5d-a150-7aa7fa35d2bf
"""


@pytest.mark.parametrize("vector", [line.rsplit(None, 1) for line in VECTORS.strip().splitlines()])
def test_the_specifications_vectors(vector: list[str]) -> None:
    name, expected = vector
    vendor, tenant, resource_type, kind, parts = name.strip().split("|")
    assert Naming(BASE).id(vendor, tenant, resource_type, kind, *parts.split("/")) == expected


@given(st.text(max_size=60))
def test_an_id_is_a_plain_uuid5(parts: str) -> None:
    made = Naming(BASE).id("altibbi", "acme", "Patient", "user", parts)
    assert made == str(uuid5(NS, f"v1|altibbi|acme|Patient|user|{key(parts)}"))


def test_another_base_is_another_name_space() -> None:
    ids = {Naming(base).id("altibbi", "acme", "Patient", "user", "1") for base in (BASE, "https://other.example.org")}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("part", "escaped"),
    [
        ("a|b/c%d", "a%7Cb%2Fc%25d"),
        (None, "-"),
        ("", "-"),
        (72, "72"),
        (1.0, "1"),
        (1e21, "1" + "0" * 21),
        ("e\u0301", "é"),
    ],
)
def test_components_are_escaped(part: object, escaped: str) -> None:
    assert escape_part(part) == escaped  # type: ignore[arg-type]  # parametrized


@given(st.lists(st.text(max_size=8), min_size=2, max_size=3), st.lists(st.text(max_size=8), min_size=2, max_size=3))
def test_different_keys_never_collide(one: list[str], other: list[str]) -> None:
    """Whatever separators a vendor's ids hold: only absent and dash are one (mapping.md §4.1)."""
    import unicodedata

    def plain(parts: list[str]) -> list[str]:
        return [unicodedata.normalize("NFC", part) or "-" for part in parts]

    assert (key(*one) == key(*other)) == (plain(one) == plain(other))


PATIENT_PLACES: dict[str, Callable[[object], dict[str, Any]]] = {
    "altibbi": lambda id: {"type": "status_update", "consultation_id": 1, "new_status": "new", "user_id": id},
    "azodha": lambda id: {"eventName": "BookAppointment", "appointmentId": 1, "patientId": id},
    "infermedica": lambda id: {
        "event_type": "survey_finished",
        "content": {"survey_id": "s1"},
        "summary": {"patient": {"id": id}},
    },
    "mediquo": lambda id: {"type": "patient_message_sent", "payload": {"patient": {"code": id}}},
}
"""Vendor → an event of a patient with an id."""


def patient(vendor: str, id: object) -> tuple[str, str]:
    """The id and the identifier of the Patient that an event makes."""
    body = PATIENT_PLACES[vendor](id)
    [made] = [
        output.resource
        for output in Case(vendor, "synthetic", (body,)).run()[0].outputs
        if output.resource["resourceType"] == "Patient"
    ]
    return made["id"], made["identifier"][0]["value"]


@pytest.mark.parametrize("vendor", PATIENT_PLACES)
@pytest.mark.parametrize(
    ("sent", "id"),
    [
        ([72, 72.0, 7.2e1, "72"], "72"),
        (["72.0"], "72.0"),
        (["072"], "072"),
        ([9007199254740993, "9007199254740993"], "9007199254740993"),  # 2**53 + 1: no double holds it
        ([18446744073709551615, "18446744073709551615"], "18446744073709551615"),
        ([1e21, "1000000000000000000000"], "1000000000000000000000"),
        ([7.5, "7.5"], "7.5"),
    ],
)
def test_an_id_has_one_form_for_every_vendor(vendor: str, sent: list[object], id: str) -> None:
    """Numbers are in shortest decimal form, never by way of a double; a text is as it was sent."""
    assert {patient(vendor, item)[1] for item in sent} == {id}
    assert len({patient(vendor, item) for item in sent}) == 1
    assert patient(vendor, id + "1") != patient(vendor, id)


def test_neighbours_beyond_a_double_are_two() -> None:
    assert decimal_text(2**53) != decimal_text(2**53 + 1)
    for number in (2**53 + 1, 2**64, 10**30 + 1):
        assert decimal_text(number) == decimal_text(Decimal(number)) == str(number)
    assert decimal_text(Decimal("72.0")) == decimal_text(Decimal("7.2E+1")) == "72"


@pytest.mark.parametrize("number", [Decimal("1e999999999"), Decimal("1e-999999999"), 10**500, Decimal("NaN")])
def test_a_number_without_a_reasonable_text_is_refused(number: Decimal | int) -> None:
    """It reads as absent: written out, it could be a gigabyte."""
    with pytest.raises(ValueError, match="number"):
        decimal_text(number)
    assert text_at({"id": number}, "/id") is None


def test_free_text_is_folded() -> None:
    assert norm("  ORAP\u00a0Forte\tTAB  4 MG ") == "orap forte tab 4 mg"
    assert norm("Straße") == norm("STRASSE")
    assert decimal_text(0.10) == "0.1"
