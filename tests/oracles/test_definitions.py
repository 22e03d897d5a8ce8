"""The definitions that `fhirline conformance` writes pass the validators of others."""

import orjson
import pytest

from tests.mappers.conformance.made import made
from tests.oracles.validators import ORACLES

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.usefixtures("oracles")]

OF_AN_OLDER_LIST = "fhirVersion"
"""The official JSON Schema lists FHIR's versions up to 4.0.0, so it does not know its own."""


@pytest.mark.parametrize("oracle", ORACLES)
def test_every_definition_passes_every_oracle(oracle: str) -> None:
    findings = ORACLES[oracle]([orjson.dumps(definition) for definition in made()])
    assert [
        (definition["resourceType"], definition["id"], finding)
        for definition, found in zip(made(), findings, strict=True)
        for finding in found
        if not finding.path.startswith(OF_AN_OLDER_LIST)
    ] == []
