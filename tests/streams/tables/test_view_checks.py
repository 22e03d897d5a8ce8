"""Views against the structures of FHIR R4."""

from typing import Any

import orjson
import pytest

from fhirline.streams.tables.view_checks import findings
from fhirline.streams.tables.views.loading import read_definition
from tests.support.paths import CONFIG


def check(resource: str, path: str, type: str = "string", **select: Any) -> list[str]:
    column = {"name": "x", "path": path, "type": type}
    document = {"name": "v", "resource": resource, "select": [{"column": [column], **select}]}
    return findings(read_definition("v.json", orjson.dumps(document)))


def test_the_shipped_views_fit() -> None:
    found = {
        path.name: told
        for path in sorted((CONFIG / "views").iterdir())
        if (told := findings(read_definition(path.name, path.read_bytes())))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("resource", "path", "type"),
    [
        ("Patient", "name.first().given.join(' ')", "string"),
        ("Patient", "name.where(use = 'official').family.first()", "string"),
        ("Patient", "deceased.exists()", "boolean"),
        ("Patient", "gender.extension('urn:x').value.ofType(code).first()", "code"),
        ("Patient", "Patient.birthDate", "date"),
        ("Observation", "value.ofType(Quantity).value", "decimal"),
        ("Observation", "effective.ofType(Period).start", "dateTime"),
        ("Observation", "subject.getReferenceKey(Patient)", "id"),
        ("Observation", "iif(issued.exists(), issued, effective.ofType(dateTime))", "dateTime"),
        ("Composition", "section.select(title).first()", "string"),
        ("QuestionnaireResponse", "item.count() + 1", "integer"),
        ("MedicationRequest", "contained.ofType(Medication).first().code.text", "string"),
        ("Encounter", "%resource.meta.source & %rowIndex", "string"),
    ],
)
def test_what_fits(resource: str, path: str, type: str) -> None:
    assert check(resource, path, type) == []


@pytest.mark.parametrize(
    ("resource", "path", "type", "told"),
    [
        ("Patient", "nmae.family.first()", "string", "path: Patient has no element nmae; did you mean name?"),
        (
            "Patient",
            "name.where(usage = 'old').family.first()",
            "string",
            "HumanName has no element usage; did you mean",
        ),
        ("Patient", "name.family", "string", "path: there may be several values: take first()"),
        ("Patient", "gender.code", "code", "has no element code"),
        ("Patient", "birthDate", "integer", "type: the column is of type integer, its values are of type date"),
        ("Patient", "active", "string", "type: the column is of type string, its values are of type boolean"),
        ("Patient", "name.first()", "string", "its values are of type HumanName"),
        ("Patient", "Observation.id", "id", "Observation is never what it is evaluated on; leave it out"),
        ("Patient", "name.getReferenceKey()", "id", "getReferenceKey() needs a Reference; here is HumanName"),
        (
            "Observation",
            "value.ofType(Money).value",
            "decimal",
            "ofType(Money) gives nothing here; there may be CodeableConcept",
        ),
        ("Observation", "value", "string", "its values are of type CodeableConcept"),
        ("Immunization", "id", "id", "resource: no Immunization is published, so that the table stays empty"),
    ],
)
def test_what_does_not_fit(resource: str, path: str, type: str, told: str) -> None:
    [found] = check(resource, path, type)
    assert told in found


def test_elements_are_checked_within_iterations() -> None:
    assert check("Encounter", "status", "code", forEach="statusHistory") == []
    assert check("Encounter", "linkId", "string", forEach="statusHistory") == [
        "select[0].column[0].path: EncounterStatusHistory has no element linkId"
    ]
    assert check("Encounter", "status", "code", forEach="statusHistry") == [
        "select[0].forEach: Encounter has no element statusHistry; did you mean statusHistory?"
    ]


def test_a_repeat_is_followed_until_nothing_new_comes() -> None:
    assert check("QuestionnaireResponse", "linkId", "string", repeat=["item", "answer.item"]) == []
    assert check("QuestionnaireResponse", "linkId", "string", repeat=["item", "answers.item"]) == [
        "select[0].repeat[1]: QuestionnaireResponse or QuestionnaireResponseItem has no element answers; "
        "did you mean answer?"
    ]
