"""All that the mappings make passes the validators of others (mapping.md §15.9)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from mappers.registry import VENDORS, vendor_mapping
from tests.oracles.allowed import allowed
from tests.oracles.samples import PER_MAPPING, Sample, alone, generated, golden
from tests.oracles.validators import ORACLES, Finding, Oracle

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("oracles")]  # the first run installs them


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_output_passes_every_oracle(vendor: str) -> None:
    made = generated(vendor)
    assert {event for event in vendor_mapping(vendor).events if alone(made[event]) < PER_MAPPING} == set()
    samples = sorted(golden(vendor).union(*made.values()), key=lambda each: each.value)
    with ThreadPoolExecutor(len(ORACLES)) as asked:  # two of them are processes
        objections = asked.map(lambda oracle: list(_objections(oracle, samples)), ORACLES.values())
        assert {name: found for name, found in zip(ORACLES, objections, strict=True) if found} == {}


def _objections(oracle: Oracle, samples: list[Sample]) -> Iterator[tuple[Finding, str]]:
    for sample, findings in zip(samples, oracle([each.value for each in samples]), strict=True):
        resource = orjson.loads(sample.value)
        for finding in findings:
            if not allowed(finding, resource, sample.narratives):
                yield finding, f"{resource['resourceType']}/{resource['id']}"
