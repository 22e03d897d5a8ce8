"""Resources as rows: nothing that a clinician needs is left out, of any type that is mapped."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import orjson

from fhirline.config.settings import load_settings
from fhirline.mappers.fhir.elements import DATA_ABSENT
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.lineage.compare import leaf_paths
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.registry import open_without_receipt
from fhirline.streams.console.element_rows import NOT_SHOWN, rows, title, with_sources
from fhirline.streams.demo.webhooks import samples
from tests.streams.cli.test_terminology import recommendation


@cache
def made() -> list[dict[str, Any]]:
    """The resources of all sample webhooks, and of a recommendation whose drug has all parts."""
    normalize, found = build_normalizer(load_settings()), {}
    bodies = [(sample.vendor, sample.body, sample.route.strip("/") or None) for sample in samples()]
    drug = {"frequency": "Every full moon", "dosage": "1", "dosageUnit": "sachet", "route": "Oral"}
    for vendor, body, event in [*bodies, ("altibbi", recommendation(1, drug), None)]:
        envelope = open_without_receipt(vendor, "default", orjson.dumps(body), event)
        for output in normalize(envelope, InMemoryState()).outputs:
            found[output.key] = orjson.loads(output.value)
    return list(found.values())


def leaves(value: Any) -> Iterator[str]:
    """The values of a resource's elements, without URLs of extensions and codes of why a value is absent."""
    if isinstance(value, dict):
        if value.get("url") == DATA_ABSENT:
            return
        is_extension = any(name.startswith("value") or name == "extension" for name in value) and "url" in value
        for name, item in value.items():
            if "div" in value or (is_extension and name == "url") or name.startswith("_"):
                continue
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif not isinstance(value, bool):
        yield str(value)


def test_every_value_is_in_a_row() -> None:
    for resource in made():
        shown = rows(resource, {})
        text = "\n".join(f"{item.text} {item.note} {item.reference}" for row in shown for item in row.items)
        content = {name: value for name, value in resource.items() if name not in NOT_SHOWN}
        assert [leaf for leaf in leaves(content) if leaf not in text] == [], named(resource)
        assert title(resource)


def named(resource: dict[str, Any]) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def test_a_concept_without_a_code_says_which_table_has_no_row() -> None:
    (request,) = (item for item in made() if "Every full moon" in str(item) and item["resourceType"][-7:] == "Request")
    shown = rows(request, {"every full moon": "frequency", "sachet": "dose-unit"})
    found = {item.text: item.table for row in shown for item in row.items if item.uncoded}
    assert found["Every full moon"] == "frequency"
    assert found["1 sachet"] == "dose-unit"
    untold = {item.text: item.table for row in rows(request, {}) for item in row.items if item.uncoded}
    assert untold["Every full moon"] == ""


def test_extensions_of_the_values_of_a_list_are_told_beside_each() -> None:
    absent = {"extension": [{"url": DATA_ABSENT, "valueCode": "masked"}]}
    (row,) = rows({"resourceType": "Basic", "given": ["Ann", None, "Eve"], "_given": [None, absent, absent]}, {})
    assert [(item.text, bool(item.note), item.path) for item in row.items] == [
        ("Ann", False, "Basic.given[0]"),
        ("", True, "Basic.given[1]"),
        ("Eve", True, "Basic.given[2]"),
    ]


def test_a_coded_concept_has_its_code_beside_it() -> None:
    (row,) = rows(
        {"resourceType": "Condition", "code": {"coding": [{"system": "urn:s", "code": "R05"}], "text": "Cough"}}, {}
    )
    assert (row.label, row.items[0][:2], row.items[0].uncoded) == ("Code", ("Cough", "R05 urn:s"), False)


def test_every_row_has_the_path_of_its_value() -> None:
    """A path that is no element's would find no source."""
    for resource in made():
        leaves = dict(leaf_paths(resource, resource["resourceType"]))
        for item in (item for row in rows(resource, {}) for item in row.items):
            assert any(leaf == item.path or leaf.startswith((f"{item.path}.", f"{item.path}[")) for leaf in leaves), (
                item
            )
        shown = with_sources(rows(resource, {}), {leaf: [leaf] for leaf in leaves})
        told = {source for row in shown for item in row.items for source in item.source.split(", ")}
        names = [name for name in resource if name not in NOT_SHOWN and not name.startswith("_")]
        beside = re.compile(rf"{resource['resourceType']}\.(.*\.)?(_\w+|extension\[\d+\])(\[\d+\])?\.")
        top = tuple(f"{resource['resourceType']}.{name}{end}" for name in names for end in ("", ".", "["))
        missing = [leaf for leaf in leaves if leaf.startswith(top) and leaf not in told and not beside.match(leaf)]
        assert missing == [], named(resource)
