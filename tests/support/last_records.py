"""The last record under every key of topics."""

from fhirline.config.settings import Settings
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import headers_of, partition_of
from fhirline.topics.declared import RESOURCE_TYPES, canonical_topic

ALL = tuple(canonical_topic(item) for item in RESOURCE_TYPES)
Held = dict[tuple[str, int, bytes], tuple[bytes | None, list[tuple[str, bytes]]]]
"""(topic, partition, key) → value and headers of the last record under it."""


def held(settings: Settings, *topics: str) -> Held:
    with Scanner(settings) as scanner:
        return {
            (*partition_of(item), bytes(item.key() or b"")): (item.value(), headers_of(item))
            for item in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))
        }


def tombstones(of: Held) -> set[str]:
    return {f"{topic} {key.decode()}" for (topic, _, key), (value, _) in of.items() if value is None}


def name_of(place: tuple[str, int, bytes]) -> str:
    return f"{place[0]} {place[2].decode()}"


def live_names(of: Held) -> set[str]:
    return {name_of(place) for place, (value, _) in of.items() if value is not None}
