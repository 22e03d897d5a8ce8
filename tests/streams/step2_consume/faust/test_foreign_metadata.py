"""Metadata that another tool has committed with the group's offsets stops no worker, whatever its bytes are."""

import socket
import struct

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.operate.status.reading import Reader
from fhirline.streams.step2_consume.faust.offset_gaps import Committed, committed_offsets
from fhirline.streams.step2_consume.unfinished import Mark
from fhirline.topics.declared import raw_topic
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import LIMIT

TIMES = 80
"""The client reads on behind the text, so that what it finds there differs from time to time."""


def commit(settings: Settings, topic: str, offset: int, metadata: bytes) -> None:
    """Commit an offset of all partitions as a client does that checks no text (OffsetCommit, version 2)."""

    def text(value: bytes) -> bytes:
        return struct.pack(">h", len(value)) + value

    partitions = [struct.pack(">iq", item, offset) + text(metadata) for item in range(settings.partitions)]
    request = b"".join(
        [
            struct.pack(">hhi", 8, 2, 1) + text(b"another-tool"),
            text(settings.group.encode()) + struct.pack(">i", -1) + text(b"") + struct.pack(">q", -1),
            struct.pack(">i", 1) + text(topic.encode()) + struct.pack(">i", len(partitions)),
            *partitions,
        ]
    )
    host, _, port = settings.bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), LIMIT) as connection, connection.makefile("rb") as answers:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", answers.read(4))
        answer = answers.read(length)
    errors = [code for (code,) in struct.iter_unpack(">4xh", answer[-6 * settings.partitions :])]
    assert errors == [0] * settings.partitions


@pytest.mark.parametrize("metadata", [b"seen by another tool", b"\xff\xfe\xc3(", "größe".encode("latin-1")])
def test_foreign_metadata_is_no_mark_and_no_error(metadata: bytes, apache_kafka: RunningBroker) -> None:
    settings = apache_kafka.settings(group=f"foreign-{metadata.hex()}")
    partitions = [TopicPartition(raw_topic("altibbi"), item) for item in range(settings.partitions)]
    with Reader(settings, ("altibbi",), (settings.group,), LIMIT) as reader:
        # The coordinator of a new group is elected when a client first asks for it.
        assert reader.read().committed == {settings.group: {}}
        assert committed_offsets(settings, partitions) == dict.fromkeys(partitions, Committed(0))
        commit(settings, raw_topic("altibbi"), 3, metadata)
        assert reader.read().committed == {settings.group: dict.fromkeys(partitions, 3)}
    for _ in range(TIMES):
        found = committed_offsets(settings, partitions)
        assert {place: committed.offset for place, committed in found.items()} == dict.fromkeys(partitions, 3)
        assert [Mark.read(committed.metadata) for committed in found.values()] == [None] * len(partitions)
