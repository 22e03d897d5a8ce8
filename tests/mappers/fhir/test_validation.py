"""What fhir.resources lets pass and the compiled validator does not, what both must let pass, and the modes."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from fhirline.mappers.fhir.validation import (
    Disagreement,
    Problem,
    as_json,
    both,
    compiled,
    fhir_resources,
    no_validation,
    problems_text,
    sampled,
    validator,
)
from fhirline.mappers.fhir.validation.compiled import is_plain, whole
from fhirline.mappers.fhir.validation.structures import RESOURCE_TYPES, resource_structure, structure
from tests.support.validation_samples import BASE, PATIENT, UNKNOWN, goldens, sample, samples

URL = "http://x.example/e"
Resource = dict[str, Any]


def _with(resource_type: str, *without: str, **content: Any) -> Resource:
    kept = {name: value for name, value in sample(resource_type).items() if name not in without}
    return kept | content


def _reference_accepts(resource: Resource) -> bool:
    """What the models themselves say, without the care that `fhir_resources` takes."""
    try:
        get_fhir_model_class(resource.get("resourceType", "Encounter")).model_validate(resource)
    except (ValidationError, KeyError):
        return False
    return True


def _contained(**content: Any) -> Resource:
    return _with("MedicationStatement", contained=[{"resourceType": "Medication", "id": "drug"} | content])


LENIENCIES: list[tuple[str, Resource, str, str]] = [
    ("1 required binding", _with("Encounter", status="done"), "Encounter.status", "literal_error"),
    (
        "1 required binding of a part",
        _with("Patient", contact=[{"name": {"text": "x", "use": "home"}}]),
        "Patient.contact.0.name.use",
        "literal_error",
    ),
    (
        "2 CodeableConcept binding",
        _with("Condition", clinicalStatus={"text": "active"}),
        "Condition.clinicalStatus",
        "required-binding",
    ),
    (
        "2 CodeableConcept binding, other system",
        _with("AllergyIntolerance", verificationStatus={"coding": [{"system": URL, "code": "confirmed"}]}),
        "AllergyIntolerance.verificationStatus",
        "required-binding",
    ),
    (
        "3 target",
        _with("Encounter", subject={"reference": "Practitioner/1"}),
        "Encounter.subject.reference",
        "reference-target",
    ),
    (
        "3 target of an absolute URL",
        _with("Encounter", subject={"reference": "https://a.example/fhir/Practitioner/1"}),
        "Encounter.subject.reference",
        "reference-target",
    ),
    ("3 type", _with("Encounter", subject=PATIENT | {"type": "Slot"}), "Encounter.subject.type", "reference-target"),
    (
        "3 syntax",
        _with("Encounter", subject={"reference": "Patient 1"}),
        "Encounter.subject.reference",
        "reference-syntax",
    ),
    ("3 dangling", _with("Encounter", subject={"reference": "#p"}), "Encounter.subject.reference", "ref-1"),
    (
        "3 contained of the wrong type",
        _with("MedicationStatement", subject={"reference": "#drug"}),
        "MedicationStatement.subject.reference",
        "reference-target",
    ),
    ("4 invariant", _with("Condition", abatementString="gone"), "Condition", "con-4"),
    ("5 text for a boolean", _with("Practitioner", active="yes"), "Practitioner.active", "bool_type"),
    ("5 number for a boolean", _with("Practitioner", active=1), "Practitioner.active", "bool_type"),
    ("5 text for an integer", _with("Appointment", minutesDuration="3"), "Appointment.minutesDuration", "int_type"),
    ("5 number for a date", _with("Patient", birthDate=86_400), "Patient.birthDate", "string_type"),
    (
        "5 JSON text for an object",
        _with("Patient", managingOrganization='{"reference": "Organization/1"}'),
        "Patient.managingOrganization",
        "dict_type",
    ),
    ("6 null", _with("Patient", gender=None), "Patient.gender", "literal_error"),
    ("6 empty object", _with("Patient", maritalStatus={}), "Patient.maritalStatus", "empty"),
    ("6 empty list", _with("Patient", photo=[]), "Patient.photo", "too_short"),
    ("6 null in a list", _with("Patient", name=[{"given": ["A", None]}]), "Patient.name.0.given.1", "empty"),
    ("6 blank", _with("Organization", name=" \n"), "Organization.name", "string_pattern_mismatch"),
    ("6 other white space", _with("Organization", name="a\u2028b"), "Organization.name", "string_pattern_mismatch"),
    ("7 long id", _with("Patient", id="x" * 65), "Patient.id", "string_pattern_mismatch"),
    (
        "7 space in a uri",
        _with("Patient", identifier=[{"system": "a b", "value": "1"}]),
        "Patient.identifier.0.system",
        "string_pattern_mismatch",
    ),
    (
        "7 junk in base64",
        _with("DiagnosticReport", presentedForm=[{"contentType": "text/plain", "data": "aGVs*bG8="}]),
        "DiagnosticReport.presentedForm.0.data",
        "string_pattern_mismatch",
    ),
    (
        "7 script",
        _with(
            "Composition",
            text={
                "status": "generated",
                "div": '<div xmlns="http://www.w3.org/1999/xhtml">x<script>alert(1)</script></div>',
            },
        ),
        "Composition.text.div",
        "txt-1",
    ),
    ("8 no resourceType", _with("Encounter", "resourceType"), "resourceType", "unknown-type"),
    (
        "8 Python-side name",
        _with("Patient", "gender", gender__ext=UNKNOWN),
        "Patient.gender__ext",
        "extra_forbidden",
    ),
    (
        "9 contained in contained",
        _contained(contained=[{"resourceType": "Medication", "id": "inner"}]),
        "MedicationStatement.contained.0.contained",
        "extra_forbidden",
    ),
    ("9 extension with neither", _with("Patient", extension=[{"url": URL}]), "Patient.extension.0", "ext-1"),
    (
        "9 extension with both",
        _with("Patient", extension=[{"url": URL, "valueCode": "x", "extension": [{"url": URL, "valueCode": "x"}]}]),
        "Patient.extension.0",
        "ext-1",
    ),
]


@pytest.mark.parametrize(
    ("resource", "path", "code"), [leniency[1:] for leniency in LENIENCIES], ids=[e[0] for e in LENIENCIES]
)
def test_what_the_reference_lets_pass_is_refused(resource: Resource, path: str, code: str) -> None:
    assert _reference_accepts(resource)
    assert (path, code) in [(item.path, item.code) for item in compiled(resource)]


def test_an_unknown_contained_type_is_a_problem_not_a_crash() -> None:
    resource = _contained(resourceType="Nonsense")
    with pytest.raises(KeyError):
        get_fhir_model_class("MedicationStatement").model_validate(resource)
    assert [(item.path, item.code) for item in compiled(resource)] == [
        ("MedicationStatement.contained.0", "union_tag_invalid"),
        ("MedicationStatement.medicationReference.reference", "reference-target"),
    ]
    assert [item.code for item in fhir_resources(resource)] == ["not-readable"]


R4B_ONLY: list[tuple[Resource, str]] = [
    (_with("Patient", extension=[{"url": URL, "valueCodeableReference": {"concept": {"text": "x"}}}]), "valueCodeable"),
    (_with("Patient", extension=[{"url": URL, "valueRatioRange": {}}]), "valueRatioRange"),
    *(
        (_with(resource_type, subject={"reference": f"{target}/1"}), "subject.reference")
        for resource_type in ("Observation", "DiagnosticReport")
        for target in ("Organization", "Procedure", "Practitioner", "Medication", "Substance")
    ),
]


@pytest.mark.parametrize(("resource", "at"), R4B_ONLY)
def test_what_r4b_added_is_refused(resource: Resource, at: str) -> None:
    assert _reference_accepts(resource)
    assert any(at in item.path for item in compiled(resource))


VALID: list[tuple[str, Resource]] = [
    ("required primitive that says why there is none", _with("MedicationStatement", "status", _status=UNKNOWN)),
    ("list of primitives with a companion", _with("Patient", name=[{"given": ["A", None], "_given": [None, UNKNOWN]}])),
    ("companion of a choice", _with("Observation", "effectiveDateTime", _effectiveDateTime=UNKNOWN)),
    ("identifier as a reference", _with("Encounter", subject={"identifier": {"value": "1"}, "type": "Patient"})),
    ("urn", _with("Encounter", subject={"reference": "urn:uuid:2cb0d7ff-6a1c-4b1b-9d4b-6a5d1b0c7f11"})),
    ("absolute URL", _with("Encounter", subject={"reference": "https://a.example/fhir/Patient/1/_history/2"})),
    ("versioned", _with("Encounter", subject={"reference": "Patient/1/_history/2"})),
    ("Arabic text", _with("Organization", name="عيادة\tالاختبار\r\nسطر")),
    ("text that looks empty", _with("Organization", name='{} [] null ""')),
    ("leap day", _with("Patient", birthDate="2000-02-29")),
    ("year", _with("Patient", birthDate="1990")),
    ("nanoseconds", _with("DiagnosticReport", issued="2024-05-03T10:12:30.123456789+14:00")),
    ("white space in base64", _with("DiagnosticReport", presentedForm=[{"contentType": "a/b", "data": "aGVs\nbG8="}])),
    ("Bundle with resources", _with("Bundle", entry=[sample("Bundle")["entry"][0] | {"resource": sample("Patient")}])),
    ("Bundle without", sample("Bundle")),
    ("nested items", _with("QuestionnaireResponse", item=[{"linkId": "1", "item": [{"linkId": "2"}]}])),
]  # fmt: skip


@pytest.mark.parametrize("resource", [item[1] for item in VALID], ids=[item[0] for item in VALID])
def test_what_is_valid_passes_both(resource: Resource) -> None:
    assert compiled(resource) == []
    assert fhir_resources(resource) == []


INVALID: list[tuple[str, Resource, str, str]] = [
    ("no such day", _with("Patient", birthDate="2023-02-29"), "Patient.birthDate", "string_pattern_mismatch"),
    ("no zone", _with("Task", lastModified="2024-05-03T10:00:00"), "Task.lastModified", "string_pattern_mismatch"),
    ("required", _with("Encounter", "class"), "Encounter.class", "missing"),
    ("required primitive", _with("Encounter", "status"), "Encounter.status", "missing"),
    (
        "required choice",
        _with("MedicationRequest", "medicationCodeableConcept"),
        "MedicationRequest.medicationCodeableConcept",
        "missing",
    ),
    ("two of a choice", _with("Observation", valueString="x"), "Observation.valueString", "choice"),
    ("unknown element", _with("Encounter", colour="red"), "Encounter.colour", "extra_forbidden"),
    ("one for a list", _with("Patient", name={"text": "x"}), "Patient.name", "list_type"),
    ("list for one", _with("Encounter", subject=[PATIENT]), "Encounter.subject", "dict_type"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "path", "code"), [item[1:] for item in INVALID], ids=[item[0] for item in INVALID]
)
def test_what_is_invalid_fails_both(resource: Resource, path: str, code: str) -> None:
    assert (path, code) in [(item.path, item.code) for item in compiled(resource)]
    assert fhir_resources(resource)


def test_all_problems_are_told_with_their_paths() -> None:
    resource = _with(
        "Encounter", status="done", period={"start": "x"}, participant=[{"individual": {"reference": "?"}}]
    )
    assert [(item.path, item.code) for item in compiled(resource)] == [
        ("Encounter.participant.0.individual.reference", "reference-syntax"),
        ("Encounter.period.start", "string_pattern_mismatch"),
        ("Encounter.status", "literal_error"),
    ]


def test_problems_of_a_bundles_resources_have_its_path() -> None:
    bundle = _with("Bundle")
    bundle["entry"][1]["resource"] = _with("Encounter", status="done")
    assert [item.path for item in compiled(bundle)] == ["Bundle.entry.1.resource.status"]
    bundle["entry"][1]["resource"] = "x"
    assert [item.path for item in compiled(bundle)] == ["Bundle.entry.1.resource"]


def test_problems_never_hold_the_value() -> None:
    secret = "SECRET 4711 \u2028"
    for base in [*samples(), _contained()]:
        for into, name in _leaves(base):
            kept, into[name] = into[name], secret
            told = orjson.dumps([as_json(compiled(base)), problems_text(compiled(base)), as_json(fhir_resources(base))])
            assert b"SECRET" not in told
            into[name] = kept


def _leaves(value: Any) -> list[tuple[Any, Any]]:
    if not isinstance(value, dict | list):
        return []
    items: Any = value.items() if isinstance(value, dict) else enumerate(value)
    return [
        place
        for name, item in list(items)
        for place in [*_leaves(item), *([(value, name)] if isinstance(item, str) else [])]
    ]


def test_the_narrow_schema_passes_nothing_that_the_whole_one_refuses() -> None:
    for item in [*samples(), *goldens()]:
        assert is_plain(item) <= (whole(item) == [])
    for _, resource, _, _ in [*LENIENCIES, *INVALID]:
        assert not is_plain(resource)


def test_the_walk_knows_every_type_and_its_primitives() -> None:
    assert set(RESOURCE_TYPES) == {item["resourceType"] for item in samples()}
    assert resource_structure("Encounter").fields["class"].required
    assert resource_structure("Encounter").required_primitives == ("status",)
    assert structure("Extension").fields["url"].required
    assert "valueRatioRange" not in structure("Extension").fields


def test_a_value_of_any_type_is_refused_not_raised() -> None:
    odd: list[Any] = [None, [], {}, "x", 1, 1.5, True, {"resourceType": "Patient"}, [None], [[]], float("nan"), b"x"]
    for base in samples():
        for name in list(base):
            for value in odd:
                assert isinstance(compiled(base | {name: value}), list)


def test_modes() -> None:
    assert validator("spec") is compiled
    assert validator("fhir.resources") is fhir_resources
    assert validator("off") is no_validation
    assert no_validation({"resourceType": "Nonsense"}) == []
    with pytest.raises(KeyError):
        validator("strict")


def test_both_unites_and_tells_disagreements() -> None:
    heard: list[Disagreement] = []
    validate = validator("both", heard.append)
    assert validate(sample("Encounter")) == ()
    assert [item.path for item in validate(_with("Encounter", "class"))] == ["Encounter.class", "Encounter.class"]
    assert heard == []
    assert [item.path for item in validate(_with("Encounter", status="done"))] == ["Encounter.status"]
    assert [(item.resource_type, len(item.compiled), len(item.reference)) for item in heard] == [("Encounter", 1, 0)]


def test_both_hears_of_what_only_the_reference_refuses() -> None:
    heard: list[Disagreement] = []
    validate = both(no_validation, heard.append)
    assert validate(_with("Encounter", "class"))
    assert [(item.compiled, bool(item.reference)) for item in heard] == [((), True)]


def test_sampled_compares_one_in_so_many_and_keeps_the_validators_verdict() -> None:
    heard: list[Disagreement] = []
    asked: list[str] = []

    def verdict(resource: Resource) -> Sequence[Problem]:
        asked.append(resource["id"])
        return []

    validate = sampled(verdict, every=3, on_disagreement=heard.append)
    invalid = _with("Encounter", "class")
    assert [validate(invalid) for _ in range(7)] == [[]] * 7
    assert len(asked) == 7
    assert len(heard) == 3
    with pytest.raises(ValueError, match="every"):
        sampled(compiled, every=0, on_disagreement=heard.append)


def test_validation_leaves_the_resource_as_it_was() -> None:
    for item in samples():
        before = orjson.dumps(item)
        compiled(item)
        assert orjson.dumps(item) == before


def test_texts() -> None:
    problems = compiled(_with("Encounter", status="done"))
    assert problems_text(problems) == "Encounter.status (literal_error)"
    assert [(item["path"], item["code"]) for item in as_json(problems)] == [("Encounter.status", "literal_error")]
    assert BASE not in problems_text(problems)
