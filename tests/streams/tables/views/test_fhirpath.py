"""FHIRPath expressions of views: what each gives on a resource."""

from typing import Any

import pytest

from fhirline.streams.tables.views.fhirpath.compiler import compile_fhirpath
from fhirline.streams.tables.views.fhirpath.scope import Scope
from fhirline.streams.tables.views.fhirpath.syntax import FhirPathError

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "extension": [{"url": "urn:race", "extension": [{"url": "code", "valueCoding": {"code": "x"}}]}],
    "contained": [
        {"resourceType": "Organization", "id": "o", "name": "Contained"},
        {"resourceType": "Device", "id": "d"},
    ],
    "active": False,
    "_birthDate": {"extension": [{"url": "urn:absent", "valueCode": "unknown"}]},
    "name": [
        {"use": "official", "family": "Invented", "given": ["Ana", "Bea"], "_given": [None, {"id": "g"}]},
        {"use": "usual", "given": ["An"]},
    ],
    "telecom": [{"system": "phone", "value": "1", "rank": 2}, {"system": "email", "value": "2", "rank": 1}],
    "multipleBirthInteger": 2,
    "generalPractitioner": [
        {"reference": "Practitioner/a"},
        {"reference": "https://example.org/fhir/Organization/b/_history/3"},
        {"reference": "#o"},
        {"identifier": {"value": "logical"}},
    ],
    "weight": 70.25,
    "period": {"start": "2024-03-01T01:00:00+02:00", "end": "2024-03"},
}

CONSTANTS = {"use": "official", "index": 1, "base": "urn:"}

EXPRESSIONS: dict[str, list[Any]] = {
    # paths
    "id": ["p1"],
    "Patient.id": ["p1"],
    "Observation.id": [],
    "name.given": ["Ana", "Bea", "An"],
    "name.missing.deeper": [],
    "id.deeper": [],
    "birthDate": [],
    "`id`": ["p1"],
    "$this.id": ["p1"],
    "%resource.id": ["p1"],
    "%rowIndex": [7],
    "{}": [],
    # indexes and subsets
    "name[0].family": ["Invented"],
    "name[%index].use": ["usual"],
    "name[9]": [],
    "name[0 - 1]": [],
    "name.given.first()": ["Ana"],
    "name.given.last()": ["An"],
    "name.given.tail()": ["Bea", "An"],
    "name.given.skip(2)": ["An"],
    "name.given.take(1)": ["Ana"],
    "name.family.single()": ["Invented"],
    "(name.given | 'Ana').count()": [3],
    "name.given.combine('Ana').isDistinct()": [False],
    "name.given.combine('Ana').distinct().count()": [3],
    "name.given.intersect('An' | 'Zoe')": ["An"],
    "name.given.exclude('An')": ["Ana", "Bea"],
    # conditions
    "name.where(use = %use).given": ["Ana", "Bea"],
    "name.where(given = 'An').use": ["usual"],
    "name.where(given = 'Ana').use": [],
    "name.where(use = %base & 'official')": [],
    "name.where(given.exists($this = 'An')).use": ["usual"],
    "telecom.all(rank > 0)": [True],
    "name.exists(use = 'old')": [False],
    "name.family.empty()": [False],
    "active": [False],
    "active.not()": [True],
    "birthDate.not()": [],
    "iif(active, 'yes', 'no')": ["no"],
    "iif(active, 'yes')": [],
    "name.iif(count() > 1, first().use)": ["official"],
    "birthDate.hasValue()": [False],
    # logic of three values
    "active or birthDate": [],
    "active and birthDate": [False],
    "active.not() or birthDate": [True],
    "active xor true": [True],
    "active implies birthDate": [True],
    "birthDate implies true": [True],
    # comparisons
    "name.use = 'official'": [False],
    "name.first().use = 'official'": [True],
    "birthDate = 'x'": [],
    "id != 'p2'": [True],
    "active = 0": [False],
    "weight = 70.250": [True],
    "weight > 70": [True],
    "'An' in name.given": [True],
    "name.given contains 'Zoe'": [False],
    "'b' > 'a'": [True],
    # dates as FHIRPath compares them
    "period.start < '2024-03-01T00:00:00Z'": [True],
    "period.start >= '2024-02-29T23:00:00Z'": [True],
    "period.end < '2024-03-05'": [],
    "period.end < '2024-04-01'": [True],
    "'2024-02-28' < '2024-02-29'": [True],
    "'2024-02-31' > '2024-02-30'": [True],
    "'10:00:00' < '10:00:01'": [True],
    # arithmetic
    "1 + 2 * 3": [7],
    "-(1 + 2)": [-3],
    "7 div 2": [3],
    "7 mod 2": [1],
    "0.1 + 0.2 = 0.3": [True],
    "1 / 0": [],
    "'a' + 'b'": ["ab"],
    "'a' & birthDate & weight": ["a70.25"],
    # texts
    "name.given.join('-')": ["Ana-Bea-An"],
    "birthDate.join()": [""],
    "'a/b/c'.split('/').last()": ["c"],
    r"'\u0041\n\''": ["A\n'"],
    "id.startsWith('p')": [True],
    "id.endsWith('p')": [False],
    "'abc'.contains('bc')": [True],
    "'abc'.matches('^a.c$')": [True],
    "'abc'.replace('b', '-')": ["a-c"],
    "'a1b2'.replaceMatches('[a-z]([0-9])', '$1')": ["12"],
    "'abc'.substring(1)": ["bc"],
    "'abc'.substring(1, 1)": ["b"],
    "'abc'.substring(9)": [],
    "'abc'.indexOf('c')": [2],
    "' A '.trim().lower().upper().length()": [1],
    "birthDate.startsWith('p')": [],
    "weight.toString()": ["70.25"],
    "'12'.toInteger() + 1": [13],
    "'x'.toInteger()": [],
    "'1.5'.toDecimal() * 2 = 3": [True],
    # types
    "multipleBirth.ofType(integer)": [2],
    "multipleBirth.ofType(boolean)": [],
    "multipleBirth as integer": [2],
    "multipleBirth is integer": [True],
    "multipleBirth is boolean": [False],
    "multipleBirth": [2],
    "multipleBirth.ofType(positiveInt)": [],
    "extension('urn:race').extension('code').value.code": ["x"],
    "deceased.exists()": [False],
    "contained.ofType(Organization).name": ["Contained"],
    "contained.ofType(FHIR.Device).id": ["d"],
    "contained.where($this is Device).id": ["d"],
    "active.ofType(integer)": [],
    "active.ofType(boolean)": [False],
    # extensions, of primitives too
    "extension('urn:race').extension('code').value.ofType(Coding).code": ["x"],
    "extension(%base & 'race').exists()": [True],
    "birthDate.extension('urn:absent').value.ofType(code)": ["unknown"],
    "name.given.extension('urn:none')": [],
    # keys
    "getResourceKey()": ["p1"],
    "generalPractitioner.getReferenceKey()": ["a", "b"],
    "generalPractitioner.getReferenceKey(Organization)": ["b"],
    "generalPractitioner.getReferenceKey('Practitioner')": ["a"],
    # boundaries
    "'2024-02'.lowBoundary()": ["2024-02-01"],
    "'2024-02'.highBoundary()": ["2024-02-29"],
    "'2024'.highBoundary()": ["2024-12-31"],
    "'2024-02-01T10:00Z'.highBoundary()": ["2024-02-01T10:00:59.999Z"],
    "'2024-02-01T10:00'.lowBoundary()": ["2024-02-01T10:00:00.000+14:00"],
    "'12:34'.highBoundary()": ["12:34:59.999"],
    "period.lowBoundary()": ["2024-03-01T01:00:00.000+02:00"],
    "period.highBoundary()": ["2024-03-31"],
    "weight.lowBoundary() = 70.245": [True],
    "active.lowBoundary()": [],
    "id.lowBoundary()": [],
    # comments
    "id // the id": ["p1"],
    "/* the */ id": ["p1"],
}


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS.items())
def test_an_expression(expression: str, expected: list[Any]) -> None:
    found = compile_fhirpath(expression, CONSTANTS)([PATIENT], Scope(PATIENT, 7))
    assert found == expected
    assert [type(item) is bool for item in found] == [type(item) is bool for item in expected]


def test_a_boundary_is_a_moment_where_a_date_time_is_wanted() -> None:
    resource = {"effectiveDateTime": "2024-02"}
    of_type = compile_fhirpath("effective.ofType(dateTime).lowBoundary()", {})
    of_column = compile_fhirpath("effectiveDateTime.highBoundary()", {}, "dateTime")
    assert of_type([resource], Scope(resource, 0)) == ["2024-02-01T00:00:00.000+14:00"]
    assert of_column([resource], Scope(resource, 0)) == ["2024-02-29T23:59:59.999-12:00"]


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("", "character 1: unexpected end"),
        ("name.", "character 6: unexpected end, expected a name"),
        ("name.first(", "character 12: unexpected end"),
        ("name.first()) ", "character 13: unexpected ')'"),
        ("name # 1", "character 6: cannot read '#'"),
        ("'open", "character 1: cannot read"),
        ("@2024-01-01", "character 1: date literals are not supported; name the date as a constant"),
        ("a ~ b", "character 3: '~' is not supported; use = or lower()"),
        ("$index", "character 1: '$index' is not supported; use $this or %rowIndex"),
        ("name.descendants()", "character 6: descendants() is not supported; there are all, as,"),
        ("name.first(1)", "character 6: first() takes 0 arguments, not 1"),
        ("name.where()", "character 6: where() takes 1 argument, not 0"),
        ("value.ofType(1)", "character 7: ofType() takes the name of a type, such as Quantity"),
        ("name.where(use = %other)", "%other is not defined; there are %use, %index, %base, %rowIndex,"),
        ("(" * 500 + "1" + ")" * 500, "nested deeper than 100 levels"),
        ("-" * 5000 + "1", "nested deeper than 100 levels"),
        (r"'\ud83d'", "character 1: the text has one half of a surrogate pair"),
    ],
)
def test_what_cannot_be_compiled(expression: str, problem: str) -> None:
    with pytest.raises(FhirPathError) as raised:
        compile_fhirpath(expression, CONSTANTS)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("name.repeat($this).count()", [2]),
        ("name.repeat(%resource).count()", [1]),
        ("name.repeat('a').count()", [2]),
        (r"'\ud83d\ude00'", ["\U0001f600"]),
    ],
)
def test_a_repeat_ends_and_escapes_are_whole_characters(expression: str, expected: list[Any]) -> None:
    patient = {"resourceType": "Patient", "name": [{"family": "A"}, {"family": "B"}]}
    assert compile_fhirpath(expression, CONSTANTS)([patient], Scope(patient, 0)) == expected


def test_a_group_that_a_pattern_does_not_have() -> None:
    patient = {"resourceType": "Patient", "gender": "male"}
    with pytest.raises(FhirPathError, match=r"'\$9' names a group that 'a' does not have"):
        compile_fhirpath("gender.replaceMatches('a', '$9')", CONSTANTS)([patient], Scope(patient, 0))


@pytest.mark.parametrize("expression", ["name.given and active", "name.given > 'a'", "name & 'a'", "active + 1"])
def test_what_does_not_fit_the_resource_is_an_error_without_a_value(expression: str) -> None:
    with pytest.raises(FhirPathError) as raised:
        compile_fhirpath(expression, CONSTANTS)([PATIENT], Scope(PATIENT, 0))
    assert "Ana" not in str(raised.value)
