"""No body makes an event that fills the memory (mapping.md §1.1): bombs of many shapes, mapped with little memory."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.bombs import SHAPES, TARGETS
from tests.support.paths import ROOT

MADE_OF_A_BYTE = 7
"""Most bytes that are made of one that was sent: markup, escaped in a resource and in the Bundle."""
OF_ANY_EVENT = 4_000_000
"""Most bytes that are made of an event besides: leaves with long pointers, which a QuestionnaireResponse names."""
OF_A_RESOURCE = 4_096
"""Most bytes of a resource of little content, in its own record and in the Bundle."""


def became(vendor: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.bombs", vendor], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.long
@pytest.mark.parametrize("vendor", sorted(TARGETS))
def test_a_bomb_stays_within_the_limits_and_costs_no_clinical_content(vendor: str) -> None:
    target = TARGETS[vendor]
    found = became(vendor)
    assert len(found) == len(SHAPES) * len(target.places)
    for bomb in found:
        name = bomb["name"]
        print(f"{bomb['seconds']:6.2f} s {bomb['sent'] / 1e6:4.1f} MB {vendor}: {name}")
        assert bomb["error"] in (None, "too-complex"), bomb
        assert bomb["records"] <= 2_003, name
        most = MADE_OF_A_BYTE * bomb["sent"] + OF_A_RESOURCE * bomb["records"] + OF_ANY_EVENT
        assert bomb["made"] <= most, bomb
        assert bomb["provenance"] <= 1_500_000, name
        assert bomb["outcome"] <= 300_000, name
        assert bomb["places"] <= 100, name
        assert bomb["state"] <= 1_010, name
        assert bomb["megabytes"] <= 700, name
        if bomb["error"]:
            assert bomb["clinical"], f"{name}: only clinical content makes an event too complex"
            assert bomb["types"] == {}, name
        else:
            assert target.resource_type in bomb["types"], f"{name}: {bomb['types']}"
    assert any("content-cut" in bomb["flags"] for bomb in found)
    assert any("string-cut" in bomb["flags"] for bomb in found)
