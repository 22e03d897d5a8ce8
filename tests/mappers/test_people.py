"""The fields of a Patient: gender by a code table, date of birth by mapping.md §3.4, rule 8; nothing sent is lost."""

from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhirline.mappers import people
from fhirline.mappers.azodha import VENDOR
from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.people import UNUSABLE_BIRTH_DATE, Field
from fhirline.mappers.results import BuiltResource, Entry, Version
from tests.support.cases import BASE, Case


@pytest.fixture
def context() -> Context:
    case = Case("azodha", "invented", ({"eventName": "BookAppointment"},))
    normalize, envelope = case.normalizer(), case.envelopes()[0]
    vendor, time = normalize.vendors["azodha"], VENDOR.event_time(envelope)
    settings = vendor.settings("acme")
    return Context(envelope, "BookAppointment", time, settings, normalize.naming, normalize.terminology, vendor.name)


def sent(pointer: str, value: str, issue: str | None = None) -> dict[str, Any]:
    parts = [{"url": "path", "valueString": pointer}, {"url": "value", "valueString": value}]
    issues = [{"url": "issue", "valueCode": issue}] if issue else []
    return {"extension": [{"extension": [*parts, *issues], "url": f"{BASE}/StructureDefinition/source-value"}]}


def omitted_by(build: MappingBuilder, context: Context) -> tuple[str, ...]:
    """Return the omitted pointers of an event that makes its Patient; without one, all is omitted."""
    build.add(people.patient(context, "patient", "P-1"))
    return tuple(build.result().omitted)


def test_a_gender_is_read_by_the_table(context: Context) -> None:
    build = MappingBuilder()
    assert people.gender("female", "azodha-gender", "/sex", context, build) == {"gender": Field({"gender": "female"})}
    assert people.gender(None, "azodha-gender", "/sex", context, build) == {}
    assert omitted_by(build, context) == ()


def test_words_without_a_row_are_omitted_flagged_and_counted(context: Context) -> None:
    build = MappingBuilder()
    found = people.gender("woman", "azodha-gender", "/sex", context, build)
    assert found == {"gender": Field({}, ("unmapped-code",))}
    assert omitted_by(build, context) == ("/sex",)
    assert dict(build.unmapped) == {"/sex": "azodha-gender"}


@pytest.mark.parametrize(
    ("value", "found", "omitted"),
    [
        (None, {}, ()),
        ("1984-02-29", {"birthDate": Field({"birthDate": "1984-02-29"})}, ()),
        (
            "2084-01-01",
            {
                UNUSABLE_BIRTH_DATE: Field(
                    {"_birthDate": sent("/born", "2084-01-01", "timestamp-invalid")}, ("timestamp-invalid",)
                )
            },
            (),
        ),
        ("in spring", {}, ("/born",)),
        ("1983-02-29", {}, ("/born",)),
    ],
)
def test_a_date_of_birth_is_read_kept_or_omitted(
    value: str | None, found: dict[str, Field], omitted: tuple[str, ...], context: Context
) -> None:
    build = MappingBuilder()
    assert people.birth_date(value, "/born", context, build) == found
    assert omitted_by(build, context) == omitted


def test_a_person_has_every_element_that_a_field_may_have(context: Context) -> None:
    home, spanish = {"city": "Sampleville"}, {"language": {"text": "Spanish"}}
    fold = people.patient(
        context,
        "patient",
        "P-1",
        {
            "communication": Field({"communication": [spanish]}),
            "address": Field({"address": [home]}),
            "deceased": Field({"_deceasedDateTime": {"extension": []}}),
            "gender": Field({"gender": "other"}),
        },
    )
    state = {name: Entry(Version((20, ""), "key"), value) for name, value in fold.updates.items()}
    [built] = fold.build(state)
    assert isinstance(built, BuiltResource)
    assert [*built.resource][3:] == ["identifier", "gender", "_deceasedDateTime", "address", "communication"]
    assert (built.resource["address"], built.resource["communication"]) == ([home], [spanish])


def test_the_elements_are_those_of_patient_and_practitioner() -> None:
    defined = {
        name for person in ("Patient", "Practitioner") for name in get_fhir_model_class(person).elements_sequence()
    }
    inherited = {"id", "meta", "implicitRules", "language", "text", "contained", "modifierExtension"}
    elements = {name for name in people.PERSON_ORDER if not name.startswith("_")}
    assert elements - {"extension"} == defined - inherited - {"extension"}


def test_another_element_is_refused_where_the_mapping_names_it() -> None:
    with pytest.raises(ValueError, match="no element of a Patient or Practitioner: adress"):
        Field({"adress": []})
