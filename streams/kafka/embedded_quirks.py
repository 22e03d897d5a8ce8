"""The differences of the embedded broker (Tansu) from Apache Kafka, and how the code handles them (faust.md §6).

Each quirk has a name here. Those that a function can handle are below; those that shape a module are only described:

* **low end offsets**: the end of a partition is reported as the base offset of the last batch plus 1, so one batch of
  ten records gives 1. Everything that must see all records reads on to the partition's EOF (`kafka.reader`,
  `operate.replay.offset_ranges`), on any broker. `fhirline status` warns where `is_embedded`.
* **unknown ACL operations**: a described group has an authorized operation that kafka-python does not know, and fails
  on. `operate.status.groups` asks by librdkafka, which takes it.
* **no members**: a described group that processes have joined is stable, and has no members
  (`operate.status.groups`: ``unnamed``).
* **few topic settings**: DescribeConfigs returns only the settings that were set, each marked as a default, and no
  settings of a broker. `topics.cluster` reads defaults too, and reports the others as unknown. Before altering a
  setting it does not ask which settings exist.
* **no CreatePartitions, no DeleteRecords**: the connection is closed. Tests of these run on Apache Kafka.
* **no metadata of offsets**: what is committed with an offset is not kept. An event that ends its worker is therefore
  not given up (`streams.step2_consume.unfinished`).
* **no transactional producer of aiokafka**: InitProducerId is refused. Our producers are librdkafka's.
"""

from typing import Any

LIMITS = (
    "records are in memory only, and lost when it ends",
    "counts and lag are too low by up to a batch, for every client that asks for end offsets",
    "it names no members of a consumer group, so nobody can tell which partitions have one",
    "it has no access control, no compaction as Apache Kafka's, no transactions, and cannot add partitions",
    "it keeps no metadata of offsets, so an event that ends its worker ends each one after it, and is not given up",
    "kcat and confluent-kafka need librdkafka 2.3 or later to read it",
)
"""Limits of the embedded broker, for operators (docs/commands.md)."""

CLUSTER_ID_PREFIX = "embedded-"
"""Cluster ids of the embedded broker begin so, which is how a client recognizes it."""

SESSION_TIMEOUT = 6.0
"""**slow joins**: the first join of a consumer group takes half the session timeout. Seconds, instead of 30."""

NO_TIMESTAMP = -1


def is_embedded(cluster_id: str | None) -> bool:
    return (cluster_id or "").startswith(CLUSTER_ID_PREFIX)


def offset_at_time(answer: Any) -> int | None:
    """**no record that late**: read kafka-python's answer to ``offsets_for_times`` for one partition.

    Where no record is as late as the time asked for, Apache Kafka's answer is None, and the embedded broker's is offset
    0 with timestamp -1.
    """
    return answer.offset if answer and answer.timestamp != NO_TIMESTAMP else None


def latest_timestamp_missing(end: Any) -> bool:
    """**no latest timestamp**: tell whether a partition's latest timestamp must still be asked for.

    The embedded broker sends it with the end offset, and closes the connection when it is asked for. Apache Kafka sends
    -1 with the end offset, and the timestamp when it is asked for. ``end``: kafka-python's answer for the end offset.
    """
    return bool(end.timestamp < 0)
