"""A partition of the state topic as it is while a replay publishes."""

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition, partition_of
from fhirline.streams.operate.replay.remap import Job
from fhirline.streams.step3_restore.state import decode

Sent = dict[tuple[str, int, bytes], int]
"""(topic, partition, key) → offset of the replay's own record."""


@dataclass(slots=True)
class StateOnTopic:
    """The last value of each key, and the offset up to which the partition was read."""

    topic: str
    partition: int
    values: dict[bytes, bytes]
    position: int | None = None

    @classmethod
    def read(cls, settings: Settings, jobs: Iterable[Job]) -> dict[str, "StateOnTopic"]:
        """Read the state of each job's raw partition. Returns it by source."""
        found = {
            job.offset_range.source: cls(job.offset_range.state_topic, job.offset_range.partition, {}) for job in jobs
        }
        by_partition = {TopicPartition(state.topic, state.partition): state for state in found.values()}
        with Scanner(settings) as scanner:
            for message in scanner.read(dict.fromkeys(by_partition)):
                by_partition[partition_of(message)]._apply(message)
        return found

    def covered(self, settings: Settings, ours: Sent) -> list[ProducerRecord]:
        """Read on, and find entries of a greater version that our own records cover: compaction would lose them."""
        before: dict[bytes, bytes | None] = {}
        found = []
        for message in self._read_on(settings):
            key, value = bytes(message.key() or b""), message.value()
            own = ours.get((self.topic, self.partition, key))
            if own is None:
                continue
            if (message.offset() or 0) < own:
                before[key] = value and bytes(value)
            elif (
                message.offset() == own
                and (live := before.get(key)) is not None
                and (value is None or decode(live).version > decode(bytes(value)).version)
            ):
                found.append(ProducerRecord(self.topic, key, live, self.partition))
        return found

    def _apply(self, message: Message) -> None:
        self.position = (message.offset() or 0) + 1
        key, value = bytes(message.key() or b""), message.value()
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = bytes(value)

    def _read_on(self, settings: Settings) -> list[Message]:
        found = []
        with Scanner(settings) as scanner:
            for message in scanner.read({TopicPartition(self.topic, self.partition): self.position}):
                self._apply(message)
                found.append(message)
        return found
