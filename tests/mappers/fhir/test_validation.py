"""Resources that only fhir.resources lets pass, that both validators let pass, and that both refuse."""

from typing import Any

import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from fhirline.mappers.fhir.validation import compiled, fhir_resources
from fhirline.mappers.fhir.validation.compiled import is_plain, whole
from fhirline.mappers.fhir.validation.structures import RESOURCE_TYPES, resource_structure, structure
from fhirline.mappers.results import Resource
from tests.support.validation.changes import URL, alter, contained_medication
from tests.support.validation.parts import PATIENT, UNKNOWN
from tests.support.validation.samples import goldens, sample, samples


def _reference_accepts(resource: Resource) -> bool:
    """Validate by the models themselves, without the care that `fhir_resources` takes."""
    try:
        get_fhir_model_class(resource.get("resourceType", "Encounter")).model_validate(resource)
    except (ValidationError, KeyError):
        return False
    return True


LENIENCIES: list[tuple[str, Resource, str, str]] = [
    ("1 required binding", alter("Encounter", status="done"), "Encounter.status", "literal_error"),
    (
        "1 required binding of a part",
        alter("Patient", contact=[{"name": {"text": "x", "use": "home"}}]),
        "Patient.contact.0.name.use",
        "literal_error",
    ),
    (
        "2 CodeableConcept binding",
        alter("Condition", clinicalStatus={"text": "active"}),
        "Condition.clinicalStatus",
        "required-binding",
    ),
    (
        "2 CodeableConcept binding, other system",
        alter("AllergyIntolerance", verificationStatus={"coding": [{"system": URL, "code": "confirmed"}]}),
        "AllergyIntolerance.verificationStatus",
        "required-binding",
    ),
    (
        "3 target",
        alter("Encounter", subject={"reference": "Practitioner/1"}),
        "Encounter.subject.reference",
        "reference-target",
    ),
    (
        "3 target of an absolute URL",
        alter("Encounter", subject={"reference": "https://a.example/fhir/Practitioner/1"}),
        "Encounter.subject.reference",
        "reference-target",
    ),
    (
        "3 type",
        alter("Encounter", subject=PATIENT | {"type": "Slot"}),
        "Encounter.subject.type",
        "reference-target",
    ),
    (
        "3 syntax",
        alter("Encounter", subject={"reference": "Patient 1"}),
        "Encounter.subject.reference",
        "reference-syntax",
    ),
    ("3 dangling", alter("Encounter", subject={"reference": "#p"}), "Encounter.subject.reference", "ref-1"),
    (
        "3 contained of the wrong type",
        alter("MedicationStatement", subject={"reference": "#drug"}),
        "MedicationStatement.subject.reference",
        "reference-target",
    ),
    ("4 invariant", alter("Condition", abatementString="gone"), "Condition", "con-4"),
    ("5 text for a boolean", alter("Practitioner", active="yes"), "Practitioner.active", "bool_type"),
    ("5 number for a boolean", alter("Practitioner", active=1), "Practitioner.active", "bool_type"),
    (
        "5 text for an integer",
        alter("Appointment", minutesDuration="3"),
        "Appointment.minutesDuration",
        "int_type",
    ),
    ("5 number for a date", alter("Patient", birthDate=86_400), "Patient.birthDate", "string_type"),
    (
        "5 JSON text for an object",
        alter("Patient", managingOrganization='{"reference": "Organization/1"}'),
        "Patient.managingOrganization",
        "dict_type",
    ),
    ("6 null", alter("Patient", gender=None), "Patient.gender", "literal_error"),
    ("6 empty object", alter("Patient", maritalStatus={}), "Patient.maritalStatus", "empty"),
    ("6 empty list", alter("Patient", photo=[]), "Patient.photo", "too_short"),
    ("6 null in a list", alter("Patient", name=[{"given": ["A", None]}]), "Patient.name.0.given.1", "empty"),
    ("6 blank", alter("Organization", name=" \n"), "Organization.name", "string_pattern_mismatch"),
    (
        "6 other white space",
        alter("Organization", name="a\u2028b"),
        "Organization.name",
        "string_pattern_mismatch",
    ),
    ("7 long id", alter("Patient", id="x" * 65), "Patient.id", "string_pattern_mismatch"),
    (
        "7 space in a uri",
        alter("Patient", identifier=[{"system": "a b", "value": "1"}]),
        "Patient.identifier.0.system",
        "string_pattern_mismatch",
    ),
    (
        "7 junk in base64",
        alter("DiagnosticReport", presentedForm=[{"contentType": "text/plain", "data": "aGVs*bG8="}]),
        "DiagnosticReport.presentedForm.0.data",
        "string_pattern_mismatch",
    ),
    (
        "7 script",
        alter(
            "Composition",
            text={
                "status": "generated",
                "div": '<div xmlns="http://www.w3.org/1999/xhtml">x<script>alert(1)</script></div>',
            },
        ),
        "Composition.text.div",
        "txt-1",
    ),
    ("8 no resourceType", alter("Encounter", "resourceType"), "resourceType", "unknown-type"),
    (
        "8 Python-side name",
        alter("Patient", "gender", gender__ext=UNKNOWN),
        "Patient.gender__ext",
        "extra_forbidden",
    ),
    (
        "9 contained in contained",
        contained_medication(contained=[{"resourceType": "Medication", "id": "inner"}]),
        "MedicationStatement.contained.0.contained",
        "extra_forbidden",
    ),
    ("9 extension with neither", alter("Patient", extension=[{"url": URL}]), "Patient.extension.0", "ext-1"),
    (
        "9 extension with both",
        alter("Patient", extension=[{"url": URL, "valueCode": "x", "extension": [{"url": URL, "valueCode": "x"}]}]),
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
    resource = contained_medication(resourceType="Nonsense")
    with pytest.raises(KeyError):
        get_fhir_model_class("MedicationStatement").model_validate(resource)
    assert [(item.path, item.code) for item in compiled(resource)] == [
        ("MedicationStatement.contained.0", "union_tag_invalid"),
        ("MedicationStatement.medicationReference.reference", "reference-target"),
    ]
    assert [item.code for item in fhir_resources(resource)] == ["not-readable"]


R4B_ONLY: list[tuple[Resource, str]] = [
    (
        alter("Patient", extension=[{"url": URL, "valueCodeableReference": {"concept": {"text": "x"}}}]),
        "valueCodeable",
    ),
    (alter("Patient", extension=[{"url": URL, "valueRatioRange": {}}]), "valueRatioRange"),
    *(
        (alter(resource_type, subject={"reference": f"{target}/1"}), "subject.reference")
        for resource_type in ("Observation", "DiagnosticReport")
        for target in ("Organization", "Procedure", "Practitioner", "Medication", "Substance")
    ),
]


@pytest.mark.parametrize(("resource", "at"), R4B_ONLY)
def test_what_r4b_added_is_refused(resource: Resource, at: str) -> None:
    assert _reference_accepts(resource)
    assert any(at in item.path for item in compiled(resource))


VALID: list[tuple[str, Resource]] = [
    ("required primitive that says why there is none", alter("MedicationStatement", "status", _status=UNKNOWN)),
    ("list of primitives with a companion", alter("Patient", name=[{"given": ["A", None], "_given": [None, UNKNOWN]}])),
    ("companion of a choice", alter("Observation", "effectiveDateTime", _effectiveDateTime=UNKNOWN)),
    ("identifier as a reference", alter("Encounter", subject={"identifier": {"value": "1"}, "type": "Patient"})),
    ("urn", alter("Encounter", subject={"reference": "urn:uuid:2cb0d7ff-6a1c-4b1b-9d4b-6a5d1b0c7f11"})),
    ("absolute URL", alter("Encounter", subject={"reference": "https://a.example/fhir/Patient/1/_history/2"})),
    ("versioned", alter("Encounter", subject={"reference": "Patient/1/_history/2"})),
    ("Arabic text", alter("Organization", name="عيادة\tالاختبار\r\nسطر")),
    ("text that looks empty", alter("Organization", name='{} [] null ""')),
    ("leap day", alter("Patient", birthDate="2000-02-29")),
    ("year", alter("Patient", birthDate="1990")),
    ("nanoseconds", alter("DiagnosticReport", issued="2024-05-03T10:12:30.123456789+14:00")),
    ("white space in base64", alter("DiagnosticReport", presentedForm=[{"contentType": "a/b", "data": "aGVs\nbG8="}])),
    ("Bundle with resources", alter("Bundle", entry=[sample("Bundle")["entry"][0] | {"resource": sample("Patient")}])),
    ("Bundle without", sample("Bundle")),
    ("nested items", alter("QuestionnaireResponse", item=[{"linkId": "1", "item": [{"linkId": "2"}]}])),
]  # fmt: skip


@pytest.mark.parametrize("resource", [item[1] for item in VALID], ids=[item[0] for item in VALID])
def test_what_is_valid_passes_both(resource: Resource) -> None:
    assert compiled(resource) == []
    assert fhir_resources(resource) == []


INVALID: list[tuple[str, Resource, str, str]] = [
    ("no such day", alter("Patient", birthDate="2023-02-29"), "Patient.birthDate", "string_pattern_mismatch"),
    ("no zone", alter("Task", lastModified="2024-05-03T10:00:00"), "Task.lastModified", "string_pattern_mismatch"),
    ("required", alter("Encounter", "class"), "Encounter.class", "missing"),
    ("required primitive", alter("Encounter", "status"), "Encounter.status", "missing"),
    (
        "required choice",
        alter("MedicationRequest", "medicationCodeableConcept"),
        "MedicationRequest.medicationCodeableConcept",
        "missing",
    ),
    ("two of a choice", alter("Observation", valueString="x"), "Observation.valueString", "choice"),
    ("unknown element", alter("Encounter", colour="red"), "Encounter.colour", "extra_forbidden"),
    ("one for a list", alter("Patient", name={"text": "x"}), "Patient.name", "list_type"),
    ("list for one", alter("Encounter", subject=[PATIENT]), "Encounter.subject", "dict_type"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "path", "code"), [item[1:] for item in INVALID], ids=[item[0] for item in INVALID]
)
def test_what_is_invalid_fails_both(resource: Resource, path: str, code: str) -> None:
    assert (path, code) in [(item.path, item.code) for item in compiled(resource)]
    assert fhir_resources(resource)


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


def test_validation_leaves_the_resource_as_it_was() -> None:
    for item in samples():
        before = orjson.dumps(item)
        compiled(item)
        assert orjson.dumps(item) == before
