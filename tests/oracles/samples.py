"""Resources that the oracles judge: all of the golden cases, and those of their mutated events."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized, Normalizer
from fhirline.mappers.registry import vendor_mapping
from tests.support.cases import Case, cases
from tests.support.mutations import mutated

PER_MAPPING = 200
MOST_SEEDS = 400


@dataclass(frozen=True)
class Sample:
    """A resource as it leaves, Bundles and OperationOutcomes too."""

    value: bytes
    narratives: bool

    @property
    def is_bundle(self) -> bool:
        return self.value.startswith(b'{"resourceType":"Bundle"')

    @property
    def is_outcome(self) -> bool:
        return self.value.startswith(b'{"resourceType":"OperationOutcome"')


def golden(vendor: str) -> set[Sample]:
    """All that the vendor's golden cases make, made anew."""
    return {sample for case in _cases(vendor) for result in case.run() for sample in _samples(case, result)}


def generated(vendor: str, least: int = PER_MAPPING) -> dict[str, set[Sample]]:
    """Return resources of mutated events, by event type: at least ``least`` resources of each mapping, no two equal.

    A case's events are mutated each by itself and still share state, so that folds see them too. Only what the
    pipeline lets out is here: what our own validator refuses would never reach anyone.
    """
    mappings = vendor_mapping(vendor).events
    made: dict[str, set[Sample]] = {event_type: set() for event_type in mappings}
    sources = [(case, case.normalizer(), {result.event_type for result in case.run()}) for case in _cases(vendor)]
    for seed in range(MOST_SEEDS):
        wanting = {event_type for event_type in mappings if alone(made[event_type]) < least}
        if not wanting:
            break
        for case, normalize, makes in sources:
            if wanting & makes:
                _make(case, normalize, random.Random(f"{case.name} {seed}"), made)
    return made


def _make(case: Case, normalize: Normalizer, rng: random.Random, made: dict[str, set[Sample]]) -> None:
    memory = InMemoryState()
    for position, body in enumerate(case.events):
        result = normalize(case.envelope(mutated(body, rng), position), memory)
        memory.apply(result.state_updates)
        made.setdefault(result.event_type, set()).update(_samples(case, result))


def outcomes_only(samples: set[Sample]) -> bool:
    """Tell whether a mapping makes no resource, so that its outcomes vary no more than its fields do."""
    return all(sample.is_outcome for sample in samples)


def alone(samples: set[Sample]) -> int:
    """Return the number of resources without Bundles, which only hold the others."""
    return sum(not sample.is_bundle for sample in samples)


def _cases(vendor: str) -> list[Case]:
    return [case for case in cases() if case.vendor == vendor]


def _samples(case: Case, result: Normalized) -> Iterator[Sample]:
    narratives = bool((case.settings or {}).get("narratives"))
    for output in (*result.outputs, result.bundle, result.outcome):
        if output:
            yield Sample(output.value, narratives)
