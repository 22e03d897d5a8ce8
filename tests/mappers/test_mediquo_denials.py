"""MediQuo: words of a documented history that deny (mapping.md §8.1.4)."""

from typing import Any

import pytest

from fhirline.mappers.pipeline.normalize import Normalized
from tests.support.cases import Case


def resources(result: Normalized, resource_type: str) -> list[dict[str, Any]]:
    return [output.resource for output in result.outputs if output.resource["resourceType"] == resource_type]


def history_of(**arrays: list[dict[str, Any]]) -> Normalized:
    """Map a finished consultation with these arrays of history."""
    payload = {"consultation": {"id": "synthetic-1"}, "patient": {"code": "synthetic-1", **arrays}}
    body = {"type": "patient_consultation_finished", "occurred_on": 1704063600, "payload": payload}
    (result,) = Case("mediquo", "-", (body,)).run()
    return result


@pytest.mark.parametrize("kind", ["allergies", "diseases", "medications"])
@pytest.mark.parametrize("ending", ["", ".", " !", ";\n", "…", ".\u200f"])
@pytest.mark.parametrize(
    "words",
    [
        "ninguna",
        "NEGA ALERGIAS",
        "No  known allergies",
        "Keine bekannt",
        "sin alergias conocidas",
        "Nenhuma",
        "n.a.",
        "não",
    ],
)
def test_a_denial_in_a_published_language_is_a_note(words: str, ending: str, kind: str) -> None:
    result = history_of(**{kind: [{"id": 1, "name": f" {words}{ending}"}]})
    (snapshot,) = resources(result, "List")
    assert "entry" not in snapshot
    assert "emptyReason" not in snapshot
    assert [note["text"].strip() for note in snapshot["note"]] == [f"{words}{ending}".strip()]
    assert "denial-text" in {flag.code for flag in result.flags}


@pytest.mark.parametrize(
    "words",
    [
        *("No soy alérgica", "Alergias: ninguna", "Que yo sepa no", "No tomo nada", "Sin antecedentes patológicos"),
        *("N.K.D.A.", "Not that I know of", "Allergies: none", "I don't have any allergies", "Not on any medication"),
        *("Não tenho", "Não que eu saiba", "Não toma nada", "Sem patologias"),
        *("Ich habe keine Allergien", "Keine Allergien/Unverträglichkeiten", "Nicht, dass ich wüsste"),
        *("No medicine allergies", "No comorbidities", "No ongoing medication", "Has no known allergies"),
        *("No es alérgica a nada", "Sin RAM", "Ninguna actualmente", "Sin AP", "Ningún tratamiento", "No toma"),
        *("Não alérgico", "Nega uso de medicação contínua", "Nenhuma até ao momento", "Não faz medicação"),
        *("Nicht allergisch", "Derzeit keine", "Soweit ich weiß keine", "Ohne Vorerkrankungen", "Nimmt nichts"),
        *("I don’t have any", "Pas d’allergie", "None that I’m aware of."),
    ],
)
def test_a_patients_own_wording_of_a_denial_is_a_note(words: str) -> None:
    result = history_of(allergies=[{"id": 1, "name": words}])
    assert not resources(result, "AllergyIntolerance")
    assert "denial-text" in {flag.code for flag in result.flags}


@pytest.mark.parametrize(
    "words",
    [
        "Nuss",
        "Nichtsteroidale Antirheumatika",
        "none?",
        "no sé",
        "unknown",
        "desconocido",
        "no consta",
        "nicht bekannt",
        "keine Angaben",
        "não informado",
        "ninguna salvo penicilina",
        "RAMC: penicilina",
        "no se conocen",
        "Alergias no conocidas",
        "no soy alérgica, pero el polen",
        "desconhece alergias",
        "k.A.",
        "not that I know of, maybe latex",
        "nenhum problema com penicilina, mas latex",
        "Nonoxynol",
        "CAP",
        "Na",
        "none recorded",
        "none noted",
        "No allergies noted",
        "nicht vorhanden",
        "Nessuna nota",
        "no ramipril",
        "sin alergias conocidas excepto látex",
        "...",
    ],
)
def test_words_that_do_not_deny_the_whole_item_are_an_allergy(words: str) -> None:
    result = history_of(allergies=[{"id": 1, "name": words}])
    (allergy,) = resources(result, "AllergyIntolerance")
    assert allergy["code"] == {"text": words}
    assert "denial-text" not in {flag.code for flag in result.flags}


@pytest.mark.parametrize(
    ("kind", "made", "description"),
    [
        ("diseases", "Condition", "Sin tratamiento actual"),
        ("diseases", "Condition", "sin alergias conocidas"),
        ("allergies", "AllergyIntolerance", "No toma medicación."),
        ("allergies", "AllergyIntolerance", "no known medical conditions"),
        ("medications", "MedicationStatement", "nega alergias"),
        ("medications", "MedicationStatement", "keine Vorerkrankungen"),
    ],
)
def test_a_description_denies_only_items_that_it_is_about(kind: str, made: str, description: str) -> None:
    named = history_of(**{kind: [{"id": 1, "name": description}]})
    assert not resources(named, made)
    result = history_of(**{kind: [{"id": 1, "description": description}]})
    (resource,) = resources(result, made)
    assert [note["text"] for note in resource["note"]] == [description]
    assert "denial-text" not in {flag.code for flag in result.flags}


@pytest.mark.parametrize(
    ("kind", "description"),
    [
        ("diseases", "sin antecedentes"),
        ("diseases", "Ninguna"),
        ("allergies", "nega alergias"),
        ("medications", "sin tratamiento actual"),
    ],
)
def test_without_a_name_the_description_may_deny(kind: str, description: str) -> None:
    result = history_of(**{kind: [{"id": 1, "description": description}]})
    (snapshot,) = resources(result, "List")
    assert ([note["text"] for note in snapshot["note"]], "entry" in snapshot) == ([description], False)
    assert "denial-text" in {flag.code for flag in result.flags}
