"""Findings that an oracle may have about a valid resource, each by the element that it is about.

That is what mapping.md §15.9 names, and where an oracle errs.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fhirline.mappers.fhir.validation.bindings import codes
from tests.oracles.validators import Finding
from tests.support.cases import BASE

DATA_ABSENT_REASON = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

NOT_HELD = (
    f"{BASE}/CodeSystem/",
    "http://hl7.org/fhir/sid/icd-10",
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://standardterms.edqm.eu",
)
"""Beginnings of code systems that no oracle holds; HL7's own ones it does."""

_CODE_NOT_FOUND = re.compile(r'Code ".*" \((?P<system>[^()]*)\) not found in value set', re.DOTALL)
_STEP = re.compile(r"(?P<name>\w+)(?:\[(?P<position>\d+|x)\])?")


def allowed(finding: Finding, resource: dict[str, Any], narratives: bool = False) -> bool:
    """Tell whether a finding is allowed; ``narratives``: the tenant has switched them on (mapping.md §13)."""
    match finding.severity, finding.rule:
        case "warning", "con-3":
            return all("clinicalStatus" not in subject for subject in _subjects(finding, resource))
        case "warning", "dom-6":
            return not narratives and all(
                subject["resourceType"] != "Composition" for subject in _subjects(finding, resource)
            )
        case "warning", "code-not-found":
            code = _CODE_NOT_FOUND.fullmatch(finding.message)
            return code is not None and code["system"].startswith(NOT_HELD)
        case "error", "missing":
            return _is_valueless(finding, resource)
        case "error", "per-1":
            return _is_in_order(_at(finding.path, resource))
    return False


def _is_in_order(period: dict[str, Any]) -> bool:
    """Tell whether a Period between instants of two zones is right: Medplum compares their text."""
    start, end = (datetime.fromisoformat(period[name]) for name in ("start", "end"))
    return start.tzinfo is not None and end.tzinfo is not None and start <= end


def _is_valueless(finding: Finding, resource: dict[str, Any]) -> bool:
    """Tell whether what counts as missing is a required code without a value that says why (mapping.md §5.2)."""
    subjects = _subjects(finding, resource)
    name = finding.path.rpartition(".")[2]
    return (
        finding.path in codes() and bool(subjects) and all(_says_why(subject.get(f"_{name}")) for subject in subjects)
    )


def _says_why(extended: Any) -> bool:
    return isinstance(extended, dict) and any(
        extension["url"] == DATA_ABSENT_REASON and extension["valueCode"] for extension in extended.get("extension", ())
    )


def _subjects(finding: Finding, resource: dict[str, Any]) -> list[dict[str, Any]]:
    """The resource that a finding is about; several where the id that it carries does not say which."""
    if finding.id is None:
        return [_at(finding.path, resource)]
    resource_type = finding.path.partition(".")[0]
    return [
        item for item in _resources(resource) if item["resourceType"] == resource_type and item.get("id") == finding.id
    ]


def _resources(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The resource, and those in it."""
    yield resource
    for contained in resource.get("contained", ()):
        yield from _resources(contained)
    for entry in resource.get("entry", ()) if resource["resourceType"] == "Bundle" else ():
        yield from _resources(entry["resource"])


def _at(path: str, resource: dict[str, Any]) -> Any:
    """Return the value at a path such as ``Encounter.location[0]`` or ``Observation.value[x]``."""
    value: Any = resource
    for step in path.split(".")[1:]:
        parts = _STEP.fullmatch(step)
        assert parts is not None, path
        name, position = parts["name"], parts["position"]
        if position == "x":
            name = next(item for item in value if re.match(f"{name}[A-Z]", item))
        value = value[name]
        if position and position != "x":
            value = value[int(position)]
    return value
