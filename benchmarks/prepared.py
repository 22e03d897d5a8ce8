"""What a worker would send for the mix, made beforehand: the floors send these bytes without mapping anything."""

from collections import defaultdict
from itertools import cycle

from benchmarks.core import core
from benchmarks.mix import mix
from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step3_restore.state import PartitionState, state_record
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.topics.declared import state_topic
from fhirline.topics.partition import partition_for

EVENTS = 1_000


class Prepared:
    """Per raw topic, the outputs of event after event of the mix, over and over: call it once an event.

    Number, sizes, headers and partitions are those of the worker's own outputs, records of state included, and without
    the constants that it leaves out.
    """

    def __init__(self, settings: Settings) -> None:
        normalize = core("off")
        states: dict[tuple[str, int], PartitionState] = {}
        constants: set[tuple[bytes, bytes | None]] = set()
        made: dict[str, list[tuple[ProducerRecord, ...]]] = defaultdict(list)
        for offset, item in enumerate(mix(EVENTS)):
            vendor, partition = item.topic.removeprefix("raw."), partition_for(item.key.decode(), settings.partitions)
            raw = item.at(partition, offset)
            state = states.setdefault((vendor, partition), PartitionState())
            mapped = map_event(raw, normalize, state, settings.partitions)
            state.apply(mapped.state_updates)
            records = []
            for record in mapped.records:
                if record.constant:
                    if (record.key, record.value) in constants:
                        continue
                    constants.add((record.key, record.value))
                records.append(ProducerRecord(record.topic, record.key, record.value, record.partition, record.headers))
            topic = state_topic(vendor)
            records += [state_record(topic, partition, mapped.key, update) for update in mapped.state_updates]
            made[item.topic].append(tuple(records))
        self._next = {topic: cycle(of) for topic, of in made.items()}

    def __call__(self, topic: str) -> tuple[ProducerRecord, ...]:
        return next(self._next[topic])
