"""Events of Altibbi, mapped one after another, and what the compacted topics then hold."""

from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from typing import Any

import orjson

from fhirline.mappers.fhir.validation import no_validation
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope, open_envelope
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized, Normalizer, StateUpdate
from fhirline.mappers.results import Entry
from tests.support.cases import Case


@cache
def mapper() -> Normalizer:
    return Case("altibbi", "", ()).normalizer(no_validation)


class Stored(InMemoryState):
    """Memory as the state topic gives it back: every value went through JSON."""

    def apply(self, updates: Iterable[StateUpdate]) -> None:
        super().apply(
            [
                update._replace(entry=Entry(update.entry.version, _through_json(update.entry.value)))
                for update in updates
            ]
        )


def _through_json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def envelope(body: dict[str, Any], second: int = 0) -> Envelope:
    received = Instant.from_unix(Decimal(1_700_000_000 + second))
    assert received is not None
    return open_envelope("altibbi", "acme", orjson.dumps(body), received)


def run(envelopes: Iterable[Envelope]) -> list[Normalized]:
    memory, results = Stored(), []
    for item in envelopes:
        results.append(mapper()(item, memory))
        memory.apply(results[-1].state_updates)
    return results


def last_written(results: Iterable[Normalized]) -> dict[str, tuple[Any, Any]]:
    """The compacted topics: per key what was written last; but ``recorded``, which a retry may refresh."""
    store = {}
    for result in results:
        for output in result.outputs:
            resource = orjson.loads(output.value)
            resource.pop("recorded", None)
            store[output.key] = (orjson.dumps(resource), None if output.constant else output.version)
    return store


def status(old: str | None, new: str | None, at: str | None, **more: Any) -> dict[str, Any]:
    body = {"type": "status_update", "consultation_id": 72, "user_id": 1, "old_status": old, "new_status": new}
    return body | {"datetime": at} | more


def recommendation(*drugs: str, at: str | None) -> dict[str, Any]:
    """A recommendation of drugs; each also brings a child of every other type."""
    names = [{"name": name} for name in drugs]
    return {
        "type": "recommendation_data",
        "consultation_id": 72,
        "user_id": 1,
        "datetime": at,
        "data": {
            "icd10": {"symptom": names, "diagnosis": names},
            "drug": {"fdaDrug": [item | {"dosage": at} for item in names]},
            "lab": {"lab": names},
            "followUp": names,
            "postCallAnswer": [{"question": name, "answer": at} for name in drugs],
        },
    }


def resources(result: Normalized, resource_type: str) -> list[dict[str, Any]]:
    return [output.resource for output in result.outputs if output.resource["resourceType"] == resource_type]


def tags(resource: dict[str, Any]) -> set[str]:
    return {tag["code"] for tag in resource["meta"]["tag"]}
