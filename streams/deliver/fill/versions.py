"""Decide the version of the values that a fill sends, and wait until it may read the topics (fhir-delivery.md §8).

The invariant: **a value that a fill sends is at least as new as every Bundle below the fill's version**, which is the
end offset of the Bundle partition. So Bundles below it need not be sent any more, and those from it on are sent.

A worker writes a resource and its Bundle in no fixed order, and waits for both before it commits the event. An erasure
writes its DELETE Bundles before its tombstones. So the topics are read only after everything that was begun when the
ends were asked for is over: the workers' group has committed the raw events that there were then; or so much time has
passed that a record which Kafka has not acknowledged makes its process end, which then writes the Bundle again, above
the version.
"""

import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaException

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.committed import committed
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, timestamp_ms
from fhirline.streams.step5_publish.publish import REPORT_GRACE
from fhirline.topics.declared import BUNDLE, ENRICHED, ERASED, enriched_topic, raw_topic

TIMEOUT = 30.0
POLL_SECONDS = 0.5
PUBLISHES = 2
"""The number of times that an erasure waits for Kafka's acknowledgements, from its block to its tombstones."""


class Versions:
    """Decides the versions of a fill. Blocking. ``workers``: whether the workers' group has members."""

    def __init__(self, settings: Settings, workers: bool) -> None:
        self._settings = settings
        self._workers = workers
        self._barrier = settings.delivery_timeout + REPORT_GRACE

    def decide(self, show: Callable[[str], None], stopped: Callable[[], bool]) -> Mapping[int, int]:
        """Return the version of each Bundle partition, once the topics may be read. Raises KafkaAccessError."""
        with Scanner(self._settings) as scanner:
            ends = {number: scanner.end(BUNDLE, number) for number in scanner.partitions(BUNDLE)}
            asked = time.monotonic()
            raw = self._raw_ends(scanner)
            erased_at = max((timestamp_ms(item) for item in scanner.read({TopicPartition(ERASED, 0): None})), default=0)
        left = erased_at / 1000 + PUBLISHES * self._barrier - time.time()
        if left > 0:
            _wait(time.monotonic() + left, lambda: False, show, "an erasure that has just begun", stopped)
        if self._workers:
            group = _Committed(self._settings)
            try:
                _wait(asked + self._barrier, lambda: group.reached(raw), show, "what the workers have begun", stopped)
            finally:
                group.close()
        return ends

    def _raw_ends(self, scanner: Scanner) -> dict[TopicPartition, int]:
        """Return the end of each raw partition that holds something.

        On the embedded broker an end may be too low. It serves the demo and tests, where an acknowledgement takes
        milliseconds.
        """
        vendors = load_vendors(self._settings.vendors_file).names
        topics = [*map(raw_topic, vendors), *(enriched_topic(name) for name in vendors if name in ENRICHED)]
        return {place: end for place in scanner.topic_partitions(topics) if (end := scanner.reported_end(place))}


class _Committed:
    """The offsets that the workers' group has committed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        config = {"group.id": settings.group, "enable.auto.commit": False, "log_level": 0}
        self._consumer = new_client(Consumer, librdkafka(settings, **config))

    def reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Tell whether the group has committed up to these offsets. Raises KafkaRequestFailed."""
        if not ends:
            return True
        try:
            found = committed(self._consumer, ends, TIMEOUT)
        except KafkaException as error:
            raise KafkaRequestFailed(
                f"{PREFIX}BOOTSTRAP: {self._settings.bootstrap} did not report the offsets of group "
                f"{self._settings.group}: {error.args[0].name()}"
            ) from None
        return all(item.offset >= ends[TopicPartition(item.topic, item.partition)] for item in found)

    def close(self) -> None:
        self._consumer.close()


def _wait(
    until: float, over: Callable[[], bool], show: Callable[[str], None], what: str, stopped: Callable[[], bool]
) -> None:
    while not stopped() and not over() and (left := until - time.monotonic()) > 0:
        show(f"{what}: waiting for {left:.0f} s at most")
        time.sleep(min(left, POLL_SECONDS))
