"""Wait for the records that must follow from the posted webhooks, as any consumer of the topics would."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from fhirline.config.settings import Settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.headers import EVENT_KEY, header
from fhirline.topics.declared import BUNDLE, OUTCOME, RESOURCE_TYPES, canonical_topic, dead_letter_topic

POLL_SECONDS = 0.2


@dataclass
class Arrival:
    """The records of one event so far. ``seconds``: from the POST until a consumer had its last resource."""

    posted: float
    bundle: "Message[bytes, bytes] | None" = None
    outcome: dict[str, Any] | None = None
    waiting: set[bytes] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def types(self) -> Counter[str]:
        if self.bundle is None:
            return Counter()
        entries = orjson.loads(self.bundle.value() or b"{}").get("entry", [])
        return Counter(entry["resource"]["resourceType"] for entry in entries)


class Watch:
    """Consumes every canonical topic without a group, from its end at the start of the watch."""

    def __init__(self, settings: Settings, *, from_beginning: bool) -> None:
        self._consumer = new_client(
            Consumer,
            librdkafka(settings, **{"group.id": "fhirline-demo", "enable.auto.commit": False, "fetch.wait.max.ms": 20}),
        )
        topics = [BUNDLE, OUTCOME, *map(canonical_topic, RESOURCE_TYPES), *map(dead_letter_topic, VENDORS)]
        self._consumer.assign([start for topic in topics for start in self._starts(topic, from_beginning)])
        self._arrivals: dict[str, Arrival] = {}
        self.seen: dict[bytes, Message[bytes, bytes]] = {}
        self.dead_letters: list[str] = []

    def _starts(self, topic: str, from_beginning: bool) -> Iterable[TopicPartition]:
        for partition in self._consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            place = TopicPartition(topic, partition)
            start = OFFSET_BEGINNING if from_beginning else self._consumer.get_watermark_offsets(place, timeout=10)[1]
            yield TopicPartition(topic, partition, start)

    def expect(self, event_key: str, posted: float) -> Arrival:
        return self._arrivals.setdefault(event_key, Arrival(posted))

    def wait(self, arrival: Arrival, only_outcome: bool, timeout: float) -> bool:
        """Read until the event's Bundle and its resources (or its outcome) have arrived; False where time is up."""
        end = time.monotonic() + timeout
        while not self._complete(arrival, only_outcome):
            if time.monotonic() > end:
                return False
            for message in [self._consumer.poll(POLL_SECONDS), *self._consumer.consume(500, 0)]:
                if message is not None and message.error() is None:
                    self._take(message)
        return True

    def _complete(self, arrival: Arrival, only_outcome: bool) -> bool:
        if only_outcome:
            return arrival.outcome is not None
        return arrival.bundle is not None and not arrival.waiting - self.seen.keys()

    def _take(self, message: "Message[bytes, bytes]") -> None:
        topic, now = message.topic() or "", time.monotonic()
        event_key = header(message.headers() or (), EVENT_KEY) or ""  # type: ignore[arg-type]  # values are bytes
        if topic.startswith("dead-letter."):
            self.dead_letters.append(event_key)
        elif topic not in (BUNDLE, OUTCOME):
            self.seen[message.key() or b""] = message
        if arrival := self._arrivals.get(event_key):
            arrival.seconds = now - arrival.posted
            if topic == BUNDLE:
                arrival.bundle = message
                entries = orjson.loads(message.value() or b"{}")["entry"]
                arrival.waiting = {entry["request"]["url"].encode() for entry in entries}
            elif topic == OUTCOME:
                arrival.outcome = orjson.loads(message.value() or b"{}")

    def close(self) -> None:
        self._consumer.close()
