"""HL7's own validation engine, with our package and no network, on the Bundles of all golden cases.

It takes two minutes: with ``HL7_VALIDATOR`` set. Results are in docs/conformance.md.
"""

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from fhirline.mappers.conformance import formats
from fhirline.mappers.conformance.code_systems import declared_code_systems
from tests.mappers.conformance.made import made
from tests.support.cases import BASE, cases
from tests.support.ehr.build import Unavailable, classpath, program
from tests.support.ehr.fixture import unavailable
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not os.environ.get("HL7_VALIDATOR"), reason="HL7_VALIDATOR is not set"),
]

SOURCES = ROOT / "tests" / "oracles" / "hl7"
OPEN = "|".join(system.name for system in declared_code_systems() if system.open)
OPEN_CODES = re.compile(rf"A definition for CodeSystem '{BASE}/CodeSystem/({OPEN})' could not be found.*", re.S)
"""The engine does not look into a fragment."""

EXPECTED = {
    "Terminology_TX_Code_ValueSet_MISSING": 5,  # statuses without a code: the setting `unknown_status`
    "Reference_REF_CantResolve": 19,  # a late event's Provenance; `fhirline deliver` completes
}
WITHOUT_A_SERVER = re.compile(r".*(http://hl7.org/fhir/ValueSet/mimetypes).*", re.S)
"""MIME types are a terminology server's."""


def test_the_engine_knows_all_that_the_golden_bundles_contain(tmp_path: Path) -> None:
    found = issues(tmp_path)
    errors = [issue for issue in found if issue["level"] in ("ERROR", "FATAL")]
    ours = [issue for issue in errors if not WITHOUT_A_SERVER.fullmatch(issue["text"])]
    assert Counter(issue["id"] for issue in ours) == EXPECTED, [issue for issue in ours if issue["id"] not in EXPECTED]
    about_ours = [issue for issue in found if BASE in issue["text"] and issue["level"] != "INFORMATION"]
    assert [issue for issue in about_ours if not OPEN_CODES.fullmatch(issue["text"])] == []
    assert [issue for issue in found if "xtension" in issue["id"]] == []


def issues(folder: Path) -> list[dict[str, str]]:
    bundles, home = folder / "bundles", folder / "home"
    bundles.mkdir()
    for case in cases():
        for number, result in enumerate(case.run()):
            if result.bundle:
                (bundles / f"{case.vendor}-{case.name}-{number}.json").write_bytes(result.bundle.value)
    package = folder / "fhirline.tgz"
    package.write_bytes(formats.as_package(made()))
    java(home, "CorePackage.java", str(home / ".fhir" / "packages"))
    lines = java(home, "Validate.java", str(bundles), str(package)).splitlines()
    assert f"DONE {len([*bundles.iterdir()])}" in lines
    return [json.loads(line.removeprefix("ISSUE ")) for line in lines if line.startswith("ISSUE ")]


def java(home: Path, source: str, *arguments: str) -> str:
    """Run a Java source with HAPI's jars, which hold HL7's engine, and a home folder of its own."""
    try:
        command = [
            program("java"),
            "-Xmx2g",
            f"-Duser.home={home}",
            "-cp",
            classpath(),
            str(SOURCES / source),
            *arguments,
        ]
    except Unavailable as error:
        unavailable(error)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
