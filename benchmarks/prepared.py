"""Records that a worker would send for the mix, made beforehand: by floors without mapping, and into topics."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from itertools import cycle

from confluent_kafka import Producer

from benchmarks.broker import Broker, send
from benchmarks.core import core, raws
from benchmarks.mix import mix
from benchmarks.program import BenchmarkFailed
from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.kafka.clients import producer_config
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition
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


def canonical(count: int, partitions: int, topics: Collection[str]) -> Iterator[ProducerRecord]:
    """Yield what a worker writes to these topics for so many events of the mix, in its order."""
    normalize = core("spec")
    states: dict[TopicPartition, InMemoryState] = {}
    for raw in raws(count):
        state = states.setdefault(raw.topic_partition, InMemoryState())
        made = map_event(raw, normalize, state, partitions)
        state.apply(made.state_updates)
        yield from (record for record in made.records if record.topic in topics)


def preload(kafka: Broker, records: Iterable[ProducerRecord]) -> None:
    """Write what a worker has written, and wait for the acknowledgements."""
    producer = Producer(producer_config(kafka.settings, **{"linger.ms": 20}))
    failed: list[object] = []
    for record in records:
        send(producer, record, lambda error, _: failed.append(error) if error is not None else None)
    if producer.flush(120) or failed:
        raise BenchmarkFailed("the records were not stored")
