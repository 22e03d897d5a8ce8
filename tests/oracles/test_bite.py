"""Each oracle reports what it is there for, and only what mapping.md §15.9 names is let pass."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.oracles.allowed import DATA_ABSENT_REASON, allowed
from tests.oracles.validators import ORACLES, Finding
from tests.support.cases import BASE

TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
TEXT = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">All of it</div>'}
PATIENT = {"reference": "Patient/1"}
ENCOUNTER = {"resourceType": "Encounter", "status": "finished", "class": {"code": "VR"}, "text": TEXT}
CONDITION = {"resourceType": "Condition", "subject": PATIENT, "text": TEXT}
COMPOSITION = {
    "resourceType": "Composition",
    "status": "final",
    "type": {"text": "Report"},
    "date": "2024-01-01",
    "author": [PATIENT],
    "title": "Report",
    "text": TEXT,
}
UNTOLD = {name: item for name, item in COMPOSITION.items() if name != "text"}
TASK = {"resourceType": "Task", "id": "t", "intent": "order", "text": TEXT}
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "Weight"}, "text": TEXT}
RESOLVED = {"coding": [{"system": f"{TERMINOLOGY}/condition-clinical", "code": "resolved"}]}
ABSENT = {"extension": [{"url": DATA_ABSENT_REASON, "valueCode": "unknown"}]}


def code(system: str, value: str = "x", text: str = "words") -> dict[str, Any]:
    return {"coding": [{"system": system, "code": value}], "text": text}


PROBLEM = code(f"{TERMINOLOGY}/condition-category", "problem-list-item")


def transaction(*resources: dict[str, Any]) -> dict[str, Any]:
    entries = [
        {"fullUrl": f"{BASE}/{position}", "resource": resource, "request": {"method": "PUT", "url": "Type/id"}}
        for position, resource in enumerate(resources)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


GOOD = [
    ENCOUNTER,
    CONDITION
    | {"clinicalStatus": RESOLVED, "category": [code(f"{TERMINOLOGY}/condition-category", "problem-list-item")]},
    COMPOSITION,
    OBSERVATION | {"valueQuantity": {"value": 1, "unit": "day"}, "subject": {"display": "Somebody"}},
    ENCOUNTER | {"contained": [{"resourceType": "Patient", "id": "x"}], "subject": {"reference": "#x"}},
    TASK | {"status": "requested"},
    transaction(ENCOUNTER, TASK | {"status": "requested"}),
]
"""No oracle has anything to say of these."""

BAD: dict[str, list[tuple[dict[str, Any], str, str]]] = {
    "medplum": [
        (COMPOSITION | {"author": []}, "error structure", "Composition.author"),
        (ENCOUNTER | {"class": None}, "error structure", "Encounter.class"),
        (ENCOUNTER | {"state": "x"}, "error structure", "Encounter.state"),
        (ENCOUNTER | {"period": {"start": "2024-02-30T99:00:00Z"}}, "error structure", "Encounter.period.start"),
        (ENCOUNTER | {"subject": {"reference": "Slot/1"}}, "warning structure", "Encounter.subject"),
        (CONDITION | {"clinicalStatus": RESOLVED, "abatementString": "x", "abatementDateTime": "2024"},
         "warning structure", "abatementDateTime"),
        (CONDITION | {"abatementString": "x", "clinicalStatus": code(f"{TERMINOLOGY}/condition-clinical", "active")},
         "error con-4", "Condition"),
        (CONDITION | {"category": [PROBLEM]}, "warning con-3", "Condition"),
        (ENCOUNTER | {"text": {"status": "generated"}}, "error structure", "Encounter.text.div"),
        (UNTOLD, "warning dom-6", "Composition"),
        (ENCOUNTER | {"extension": [{"url": "https://example.org/x"}]}, "error ext-1", "Encounter.extension[0]"),
        (transaction(ENCOUNTER, ENCOUNTER | {"length": {"code": "min"}}),
         "error drt-1", "Bundle.entry[1].resource.length"),
        (ENCOUNTER | {"period": {"start": "2024-02-01", "end": "2024-01-01"}}, "error per-1", "Encounter.period"),
        (ENCOUNTER | {"subject": {"reference": "#x"}}, "error ref-1", "Encounter.subject"),
        (OBSERVATION | {"valueQuantity": {"value": 1, "code": "d"}}, "error qty-3", "Observation.value[x]"),
        (transaction(ENCOUNTER) | {"type": "collection"}, "error bdl-3", "Bundle"),
        (transaction(UNTOLD), "warning dom-6", "Bundle.entry[0].resource"),
    ],
    "fhir": [
        (ENCOUNTER | {"status": "done"}, "error code-not-found", "Encounter.status"),
        (CONDITION | {"clinicalStatus": code(f"{TERMINOLOGY}/condition-clinical")},
         "error code-not-found", "Condition.clinicalStatus"),
        (CONDITION | {"category": [code(f"{TERMINOLOGY}/condition-category")]},
         "warning code-not-found", "Condition.category[0]"),
        (ENCOUNTER | {"subject": {"reference": "Slot/1"}}, "error invalid", "Encounter.subject"),
        (TASK, "error missing", "Task.status"),
        (TASK | {"_status": ABSENT}, "error missing", "Task.status"),
        (ENCOUNTER | {"state": "x"}, "error unexpected", "Encounter.state"),
        (transaction(ENCOUNTER, TASK), "error missing", "Task.status"),
    ],
    "json-schema": [
        (ENCOUNTER | {"status": "done"}, "error enum", "status"),
        (ENCOUNTER | {"state": "x"}, "error additionalProperties", ""),
        (ENCOUNTER | {"period": {"start": "yesterday"}}, "error pattern", "period.start"),
        (ENCOUNTER | {"id": "a b"}, "error pattern", "id"),
        (transaction(ENCOUNTER | {"status": "done"}), "error oneOf", "entry.0.resource"),
    ],
}  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("oracles")
@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_reports_what_it_is_there_for(name: str) -> None:
    judged = ORACLES[name]([orjson.dumps(entry) for entry in [*GOOD, *(item for item, _, _ in BAD[name])]])
    assert judged[: len(GOOD)] == [[] for _ in GOOD]
    for (resource, rule, path), findings in zip(BAD[name], judged[len(GOOD) :], strict=True):
        said = [(f"{finding.severity} {finding.rule}", finding.path) for finding in findings]
        assert (rule, path) in said, resource


VALUELESS = Finding("error", "missing", "Task.status", "Missing property", "t")
PERIOD = Finding("error", "per-1", "Encounter.period", "Constraint per-1 not met")
OFFSETS = {"start": "2024-01-01T12:00:00+02:00", "end": "2024-01-01T10:00:00Z"}
NARRATIVE = Finding("warning", "dom-6", "Encounter", "A resource should have narrative")


def not_found(system: str, severity: str = "warning") -> Finding:
    return Finding(severity, "code-not-found", "Condition.code", f'Code "x" ({system}) not found in value set')


@pytest.mark.parametrize(
    ("finding", "resource", "passes"),
    [
        (VALUELESS, TASK | {"_status": ABSENT}, True),
        (VALUELESS, TASK, False),
        (VALUELESS, TASK | {"_status": {"id": "x"}}, False),
        (VALUELESS, TASK | {"_intent": ABSENT}, False),
        (replace(VALUELESS, path="Task.authoredOn"), TASK | {"_authoredOn": ABSENT}, False),
        (VALUELESS, transaction(ENCOUNTER, TASK | {"_status": ABSENT}), True),
        (VALUELESS, transaction(TASK, TASK | {"_status": ABSENT}), False),
        (VALUELESS, ENCOUNTER | {"contained": [TASK | {"_status": ABSENT}]}, True),
        (Finding("error", "con-3", "Condition", ""), CONDITION, False),
        (Finding("warning", "con-3", "Condition", ""), CONDITION, True),
        (Finding("warning", "con-3", "Condition", ""), CONDITION | {"clinicalStatus": RESOLVED}, False),
        (Finding("warning", "con-3", "Bundle.entry[1].resource", ""), transaction(ENCOUNTER, CONDITION), True),
        (NARRATIVE, ENCOUNTER, True),
        (Finding("warning", "dom-6", "Composition", ""), COMPOSITION, False),
        (Finding("warning", "dom-6", "Bundle.entry[0].resource", ""), transaction(COMPOSITION), False),
        (PERIOD, ENCOUNTER | {"period": OFFSETS}, True),
        (PERIOD, ENCOUNTER | {"period": {"start": "2024-01-01T10:00:00Z", "end": "2024-01-01T11:59:00+02:00"}}, False),
        (replace(PERIOD, path="Observation.effective[x]"), OBSERVATION | {"effectivePeriod": OFFSETS}, True),
        (PERIOD, ENCOUNTER | {"period": {"start": "2024-01-02", "end": "2024-01-01"}}, False),
        (not_found("http://loinc.org"), CONDITION, True),
        (not_found(f"{BASE}/CodeSystem/vendor"), CONDITION, True),
        (not_found("http://loinc.org", "error"), CONDITION, False),
        (not_found(f"{TERMINOLOGY}/condition-category"), CONDITION, False),
        (Finding("warning", "structure", "Encounter.subject", "Invalid reference"), ENCOUNTER, False),
    ],
)
def test_only_what_is_named_passes(finding: Finding, resource: dict[str, Any], passes: bool) -> None:
    assert allowed(finding, resource) is passes


def test_where_narratives_are_on_they_must_be_there() -> None:
    assert not allowed(NARRATIVE, ENCOUNTER, narratives=True)
