"""A Bundle is a transaction that a server can carry out (R4's transaction rules; mapping.md §3.1).

What no validator looks at: the oracles judge a Bundle's elements, not whether its entries fit together.
"""

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from fhirline.mappers.pipeline.normalize import Normalized
from fhirline.mappers.registry import VENDORS
from tests.oracles.samples import generated
from tests.support.cases import Case, cases

ABSOLUTE = re.compile(r"^(?P<base>https?://.+)/(?P<key>[A-Z]\w+/[A-Za-z0-9.-]{1,64})$")


def transactions(results: list[Normalized]) -> Iterator[tuple[Normalized, dict[str, Any]]]:
    for result in results:
        if result.bundle:
            yield result, orjson.loads(result.bundle.value)


def check(bundle: dict[str, Any]) -> set[str]:
    """Assert that each entry puts its own resource where its fullUrl says, once; what it puts."""
    assert bundle["type"] == "transaction"
    bases, keys = set(), []
    for entry in bundle["entry"]:
        full_url = ABSOLUTE.fullmatch(entry["fullUrl"])
        assert full_url is not None, entry["fullUrl"]
        resource = entry["resource"]
        assert entry["request"] == {"method": "PUT", "url": full_url["key"]}
        assert full_url["key"] == f"{resource['resourceType']}/{resource['id']}"
        bases.add(full_url["base"])
        keys.append(full_url["key"])
    assert len(bases) == 1, "relative references are resolved against the entry's own base"
    assert len(set(keys)) == len(keys), "a transaction changes a resource once"
    return set(keys)


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.vendor}/{case.name}")
def test_a_bundle_holds_what_its_event_made_and_all_that_is_referred_to(case: Case) -> None:
    there: set[str] = set()
    for result, bundle in transactions(case.run()):
        assert [entry["resource"] for entry in bundle["entry"]] == [
            orjson.loads(output.value) for output in result.outputs
        ]
        there |= check(bundle)
        assert set(references(bundle)) - there == set(), "neither in the Bundle nor in one before it"


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("least", [10, pytest.param(30, marks=pytest.mark.long)])
def test_a_bundle_of_a_mutated_event_is_a_transaction(vendor: str, least: int) -> None:
    bundles = {
        sample.value for samples in generated(vendor, least=least).values() for sample in samples if sample.is_bundle
    }
    assert len(bundles) > 5
    for bundle in bundles:
        check(orjson.loads(bundle))


def references(value: Any) -> Iterator[str]:
    """Literal references below a value, but for those to what is contained."""
    if isinstance(value, dict):
        found = value.get("reference")
        if isinstance(found, str) and not found.startswith("#"):
            yield found
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from references(item)
