"""config/emitted-elements.json, what the narrow schema knows: too little of it is slow, never wrong."""

import json
from typing import Any

from fhirline.mappers.fhir.validation.compiled import emitted, is_plain, narrow_validator
from fhirline.mappers.fhir.validation.references import targets
from fhirline.mappers.fhir.validation.schema import reference_to
from fhirline.mappers.fhir.validation.structures import ANY_RESOURCE, Structure, resource_structure, structure
from tests.support.paths import CONFIG
from tests.support.validation.samples import goldens, samples

TABLE = CONFIG / "emitted-elements.json"


def test_golden_outputs_pass_the_narrow_schema(approve: bool) -> None:
    """``pytest tests/mappers/fhir/test_validation_emitted.py --approve`` writes the table anew."""
    resources = [*goldens(), *samples()]
    if approve:
        TABLE.write_text(_table(resources), "utf-8")
        emitted.cache_clear()
        narrow_validator.cache_clear()
    passed = [resource for resource in resources if is_plain(resource)]
    assert len(passed) >= 0.9 * len(resources), "run this test with --approve"


def test_every_name_in_the_table_is_an_element() -> None:
    known = {sample["resourceType"] for sample in samples()}
    for name, elements in emitted().items():
        fields = (resource_structure(name) if name in known else structure(name.partition(" ")[0])).fields
        assert elements.always | elements.sometimes <= set(fields), name


def _table(resources: list[dict[str, Any]]) -> str:
    found: dict[str, list[set[str]]] = {}
    for resource in resources:
        _collect(resource, resource_structure(resource["resourceType"]), found)
    rows = []
    for name, instances in sorted(found.items()):
        always = set.intersection(*instances)
        row = {"always": sorted(always), "sometimes": sorted(set.union(*instances) - always)}
        rows.append(f" {json.dumps(name)}: {json.dumps(row)}")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _collect(value: dict[str, Any], of: Structure, found: dict[str, list[set[str]]]) -> None:
    found.setdefault(of.name, []).append(set(value) - {"resourceType"})
    for name, content in value.items():
        field = of.fields[name] if name != "resourceType" else None
        inner = field.structure if field else None
        for item in content if isinstance(content, list) else [content]:
            if inner == ANY_RESOURCE:
                _collect(item, resource_structure(item["resourceType"]), found)
            elif field and inner == "Reference":
                _collect(item, reference_to(targets(of.name, name, field.targets)), found)
            elif inner and item is not None:
                _collect(item, structure(inner), found)
