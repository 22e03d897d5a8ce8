"""The entries of ``normalizer.keys`` that name the raw partitions whose records were copied in encrypted form.

A replay that begins at a partition's first record builds state from nothing. After the removal of what was copied the
partition begins later, and still has every event.
"""

from collections.abc import Iterable, Mapping

import orjson

from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition
from fhirline.topics.declared import KEYS

PREFIX = "copied/"


def entries(scanner: LogScanner, ranges: Mapping[TopicPartition, tuple[int, int]]) -> list[ProducerRecord]:
    """Make the entries of partitions of which these offsets were copied: the first one, and the one behind the last."""
    known, made = read_ranges(scanner, ranges), []
    for place, (first, cut) in ranges.items():
        begin, end = known.get(place, (first, first))
        value = orjson.dumps({"from": begin if end == first or begin == first else first, "to": cut})
        made.append(ProducerRecord(KEYS, f"{PREFIX}{place}".encode(), value, place.partition))
    return made


def read_ranges(scanner: LogScanner, places: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
    """Read what was copied of raw partitions: the first offset, and the one behind the last."""
    wanted = {f"{PREFIX}{place}".encode(): place for place in places}
    starts: dict[TopicPartition, int | None] = {
        TopicPartition(KEYS, place.partition): None for place in wanted.values()
    }
    found: dict[TopicPartition, tuple[int, int]] = {}
    for message in scanner.stored(starts):
        place, value = wanted.get(message.key() or b""), message.value()
        if place is not None and value is not None:
            held = orjson.loads(value)
            found[place] = held["from"], held["to"]
    return found


def complete(begin: int, copied: tuple[int, int] | None) -> bool:
    """Tell whether a partition that begins at this offset still has every event it has ever had."""
    return begin == 0 or copied == (0, begin)
