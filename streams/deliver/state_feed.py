"""Reading ``normalizer.delivered``: a partition's state when it is assigned, and operators' orders later."""

from collections.abc import Mapping

from fhirline.config.settings import Settings
from fhirline.streams.deliver.state import RESUME, DeliveredPartition
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition, partition_of

Read = list[tuple[TopicPartition, int, bytes, bytes | None]]
"""Records in their order: partition, offset, key, value."""


class StateFeed:
    """Reads on to the end of some partitions. Blocking; one caller at a time."""

    def __init__(self, settings: Settings) -> None:
        self._scanner = Scanner(settings)

    def restore(self, state: DeliveredPartition) -> None:
        """Read a partition from its beginning. Raises KafkaAccessError."""
        for message in self._scanner.read({state.topic_partition: None}):
            state.apply(message.key() or b"", message.value())
            state.position = (message.offset() or 0) + 1

    def read(self, positions: Mapping[TopicPartition, int | None]) -> Read:
        """Return what has come since. Raises KafkaAccessError."""
        return [
            (partition_of(message), message.offset() or 0, message.key() or b"", message.value())
            for message in self._scanner.read(positions)
        ]

    def close(self) -> None:
        self._scanner.close()


def apply_orders(states: Mapping[TopicPartition, DeliveredPartition], read: Read) -> None:
    """Apply the orders among the records; all else this process has written, and may have replaced since."""
    for place, offset, key, value in read:
        if (state := states.get(place)) is not None:
            state.position = offset + 1
            if key.startswith(RESUME.encode()):
                state.apply(key, value)
