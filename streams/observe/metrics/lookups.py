"""Metrics that are looked up at each scrape: lag and state, per partition. They cost nothing between two scrapes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fhirline.streams.kafka.records import Lag


@dataclass(frozen=True, slots=True)
class StateSize:
    """The state of a raw partition: its entries, and the bytes of their values."""

    topic: str
    partition: int
    entries: int
    size: int


class Lags(Collector):
    """The lag of each assigned partition. ``topics``: the partitions of every topic of the group, assigned or not."""

    def __init__(
        self, registry: CollectorRegistry, group: str, topics: Mapping[str, int], lags: Callable[[], Iterable[Lag]]
    ) -> None:
        self._group = group
        self._topics = topics
        self._lags = lags
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "fhirline_lag_records",
            "Records of an assigned partition after the committed offset, as of the last fetch",
            labels=("group", "topic", "partition"),
        )
        for partition_lag in self._lags():
            lag.add_metric((self._group, partition_lag.topic, str(partition_lag.partition)), partition_lag.records)
        partitions = GaugeMetricFamily(
            "fhirline_topic_partitions", "Partitions of a topic that the group reads", labels=("group", "topic")
        )
        for topic, count in self._topics.items():
            partitions.add_metric((self._group, topic), count)
        return iter((lag, partitions))

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is assigned yet when the registry asks


class StateSizes(Collector):
    def __init__(self, registry: CollectorRegistry, sizes: Callable[[], Iterable[StateSize]]) -> None:
        self._sizes = sizes
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        labels = ("topic", "partition")
        entries = GaugeMetricFamily("fhirline_state_registers", "State entries of a partition", labels=labels)
        size = GaugeMetricFamily("fhirline_state_bytes", "Bytes of the state entries' values", labels=labels)
        for state in self._sizes():
            partition = (state.topic, str(state.partition))
            entries.add_metric(partition, state.entries)
            size.add_metric(partition, state.size)
        return iter((entries, size))

    def describe(self) -> Iterable[Metric]:
        return ()
