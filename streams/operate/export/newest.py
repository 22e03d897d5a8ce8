"""The newest record of each key of a partition, in the order of their offsets, tombstones included.

The partition is read twice: once for the offset of each key's newest record, once for the records. So memory holds keys
and not values: about 150 bytes for each key of one partition.
"""

from collections.abc import Iterator

from confluent_kafka import Message

from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import TopicPartition


def newest(scanner: Scanner, partition: TopicPartition) -> Iterator[Message]:
    """Yield one record of each key: the newest of the first reading, or a later one.

    A record that was the newest may be superseded, and compacted away, before it is read again. Then another reading
    yields the later one.
    """
    sought = {message.key(): message.offset() for message in scanner.read({partition: None})}
    while sought:
        later: dict[bytes | None, int | None] = {}
        for message in scanner.read({partition: min(offset or 0 for offset in sought.values())}):
            key, offset = message.key(), message.offset() or 0
            wanted = sought.get(key)
            if wanted == offset:
                del sought[key]
                yield message
            elif wanted is not None and offset > wanted:
                later[key] = offset
        sought = {key: later[key] for key in sought if key in later}
