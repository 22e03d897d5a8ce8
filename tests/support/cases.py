"""Golden cases: ``tests/golden/<vendor>/<case>.in.json`` is what arrives, ``….out.json`` what was approved.

A case holds ``events`` (bodies, in order of arrival; they share state) and, optionally, ``received_at`` (of the first;
each later one comes a second later), ``route_event`` (Azodha) and ``settings`` (tenant settings). All synthetic.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import Vendors, load_vendors
from fhirline.mappers.fhir.validation import Validator, validator
from fhirline.mappers.identity import Naming
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope, open_envelope
from fhirline.mappers.pipeline.limits import Limits
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized, Normalizer
from tests.support.paths import GOLDEN

BASE = "https://fhirline.example.org"
RECEIVED_AT = "2024-06-01T12:00:00Z"


@dataclass(frozen=True)
class Case:
    vendor: str
    name: str
    events: tuple[dict[str, Any], ...]
    received_at: str = RECEIVED_AT
    route_event: str | None = None
    settings: dict[str, Any] | None = None

    @property
    def approved(self) -> Path:
        return GOLDEN / self.vendor / f"{self.name}.out.json"

    def envelopes(self) -> list[Envelope]:
        first = Instant.parse(self.received_at)
        assert first is not None
        return [self.envelope(body, position) for position, body in enumerate(self.events)]

    def envelope(self, body: dict[str, Any], position: int = 0) -> Envelope:
        first = Instant.parse(self.received_at)
        assert first is not None
        received = Instant.from_unix(Decimal(first.order[0] + position))
        assert received is not None
        return open_envelope(self.vendor, "acme", orjson.dumps(body), received, self.route_event)

    def normalizer(self, check: Validator | None = None, limits: Limits | None = None) -> Normalizer:
        return Normalizer(
            with_settings(self.vendor, self.settings or {}),
            Naming(BASE),
            load_terminology(),
            check or validator("spec"),
            limits or Limits(),
        )

    def run(self) -> list[Normalized]:
        normalize, memory, results = self.normalizer(), InMemoryState(), []
        for envelope in self.envelopes():
            results.append(normalize(envelope, memory))
            memory.apply(results[-1].state_updates)
        return results


def with_settings(vendor: str, settings: dict[str, Any]) -> Vendors:
    """The packaged vendors with one vendor's defaults overridden."""
    dumped = load_vendors().model_dump()
    dumped["vendors"][vendor]["defaults"].update(settings)
    return Vendors.model_validate(dumped)


def cases() -> list[Case]:
    """Return every golden case, by vendor and name. Their events are shared: a test that changes one copies it."""
    return [*_cases()]


@cache
def _cases() -> tuple[Case, ...]:
    found = []
    for path in sorted(GOLDEN.glob("*/*.in.json")):
        content = json.loads(path.read_text("utf-8"))
        content["events"] = tuple(content["events"])
        found.append(Case(path.parent.name, path.name.removesuffix(".in.json"), **content))
    return tuple(found)


def shown(results: list[Normalized]) -> list[dict[str, Any]]:
    """Return what an approved file holds of each event."""
    return [
        {
            "resources": [orjson.loads(output.value) for output in result.outputs],
            "outcome": orjson.loads(result.outcome.value) if result.outcome else None,
            "refusals": [f"{refusal.code} {refusal.resource_type}" for refusal in result.refusals],
        }
        for result in results
    ]


def one_in(share: int, values: Iterable[Any]) -> list[Any]:
    """Return the values as parameters, of which all but each ``share``-th are left to ``make test-long``."""
    return [
        pytest.param(value, marks=() if position % share == 0 else pytest.mark.long)
        for position, value in enumerate(values)
    ]
