"""All that the mappings make passes the validators of others (mapping.md §15.9)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from fhirline.mappers.registry import VENDORS, vendor_mapping
from tests.oracles.allowed import allowed
from tests.oracles.samples import PER_MAPPING, Sample, alone, generated, golden, outcomes_only
from tests.oracles.validators import ORACLES, Finding, Oracle

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("oracles")]  # the first run installs them

SLOW = ("azodha", "mediquo")
"""Vendors of whom there is the most to validate: of the others `make test` makes sure, of these `make test-long`."""


@pytest.mark.long
@pytest.mark.parametrize(
    "vendor", [pytest.param(item, marks=pytest.mark.long if item in SLOW else ()) for item in VENDORS]
)
def test_every_output_passes_every_oracle(vendor: str) -> None:
    made = generated(vendor)
    mapped = [event for event in vendor_mapping(vendor).events if not outcomes_only(made[event])]
    assert {event for event in mapped if alone(made[event]) < PER_MAPPING} == set()
    mutants = sorted({sample for samples in made.values() for sample in samples}, key=lambda item: item.value)
    bundles, others = ([mutant for mutant in mutants if mutant.is_bundle is wanted] for wanted in (True, False))
    samples = [*golden(vendor), *others, *bundles[::5]]  # what a Bundle holds is judged alone already
    with ThreadPoolExecutor(len(ORACLES)) as asked:  # two of them are processes
        objections = asked.map(lambda oracle: list(_objections(oracle, samples)), ORACLES.values())
        assert {name: found for name, found in zip(ORACLES, objections, strict=True) if found} == {}


@pytest.mark.parametrize("oracle", ORACLES.values(), ids=ORACLES)
def test_a_broken_output_is_objected_to(oracle: Oracle) -> None:
    sample = next(
        entry for entry in sorted(golden("altibbi"), key=lambda item: item.value) if b'"Encounter"' in entry.value
    )
    broken = orjson.loads(sample.value) | {"status": "done", "class": [], "state": "x"}
    assert list(_objections(oracle, [sample])) == []
    assert list(_objections(oracle, [Sample(orjson.dumps(broken), narratives=False)])) != []


def _objections(oracle: Oracle, samples: list[Sample]) -> Iterator[tuple[Finding, str]]:
    for sample, findings in zip(samples, oracle([item.value for item in samples]), strict=True):
        resource = orjson.loads(sample.value)
        for finding in findings:
            if not allowed(finding, resource, sample.narratives):
                yield finding, f"{resource['resourceType']}/{resource['id']}"
