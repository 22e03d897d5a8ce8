"""The canonical keys that the present mapping makes of a patient's events. Pure."""

from collections.abc import Iterable

from fhirline.mappers.pipeline.normalize import InMemoryState, Normalizer
from fhirline.streams.kafka.records import ConsumerRecord, TopicPartition
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.topics.declared import PATIENTLESS_TYPES, RESOURCE_TYPES, canonical_topic

CANONICAL = tuple(canonical_topic(name) for name in RESOURCE_TYPES if name not in PATIENTLESS_TYPES)


def canonical_keys(raws: Iterable[ConsumerRecord], normalize: Normalizer, partitions: int) -> frozenset[str]:
    """Return the keys that the mapping makes of raw records, in their partitions' order."""
    keys: set[str] = set()
    states: dict[TopicPartition, InMemoryState] = {}
    for raw in sorted(raws, key=lambda raw: raw.position):
        state = states.setdefault(raw.topic_partition, InMemoryState())
        mapped = map_event(raw, normalize, state, partitions)
        state.apply(mapped.state_updates)
        keys |= {record.key.decode() for record in mapped.records if record.topic in CANONICAL}
    return frozenset(keys)
