"""Read topics outside any consumer group, and open the sealed records.

For commands that inspect records without consuming them (erasure, trace, replay, dead letters).
"""

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import Message

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.opener import Opener
from fhirline.streams.kafka.log_scanner import LogScanner, Progress
from fhirline.streams.kafka.records import RecordPosition, TopicPartition

__all__ = ["Progress", "Scanner"]


class Scanner(LogScanner):
    """A scanner that opens sealed records (docs/encryption.md).

    A record whose keys were destroyed is left out, as one is that retention has deleted. One that cannot be opened
    although nothing is lost comes as it is stored, with its header ``key-id``.
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        super().__init__(settings, progress)
        self._opener = Opener(settings)

    def close(self) -> None:
        self._opener.close()
        super().close()

    def read(
        self,
        starts: Mapping[TopicPartition, int | None],
        ends: Mapping[TopicPartition, int] | None = None,
        whole: bool = False,
    ) -> Iterator[Message]:
        """Read every record of some partitions, opened. Arguments are those of `stored`.

        Raises DataKeyMissing where a key is lost, and EncryptionNotSet where there are no secrets.
        """
        for _, opened in self.both(starts, ends, whole):
            if opened is not None:
                yield opened

    def both(
        self,
        starts: Mapping[TopicPartition, int | None],
        ends: Mapping[TopicPartition, int] | None = None,
        whole: bool = False,
    ) -> Iterator[tuple[Message, Message | None]]:
        """Read as `read` does: each record as it is stored, and opened; None where its keys were destroyed."""
        began = time.monotonic()
        for message in self.stored(starts, ends, whole):
            yield message, self.opened(message, began)

    def opened(self, stored: Message, since: float = float("inf")) -> Message | None:
        """Open a message of `stored`; None where its keys were destroyed. ``since``: when its reading began."""
        return self._opener.open_message(stored, since)

    def at(self, position: RecordPosition) -> Message | None:
        """Read the record at one position, opened.

        None where retention has deleted it, its keys were destroyed, or it never existed.
        """
        partition, offset = position.topic_partition, position.offset
        if partition.partition not in self.partitions(partition.topic) or self.end_before(position) is not None:
            return None
        for message in self.read({partition: offset}, {partition: offset + 1}):
            return message if message.offset() == offset else None
        return None
