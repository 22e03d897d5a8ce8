"""Waiting until the workers and the enrichment have read the copies.

Before that nothing is removed: a thin event is completed from its first record only (`enrich.stage`), and the workers'
output must name the copies. Workers that have never committed an offset of a partition have nothing to lose there.
"""

import time
from collections.abc import Callable
from contextlib import closing

from fhirline.config.errors import KafkaAccessError, KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.operate.keys.existing.survey import Partitions
from fhirline.topics.declared import ENRICHED, raw_topic, vendor_of

LOOK_SECONDS = 1.0
PATIENCE = 120.0
"""Seconds without any progress of a group after which waiting ends."""


class NotReadYet(KafkaAccessError):
    """A group has not read the copies, and makes no progress."""


def wait(settings: Settings, partitions: Partitions, patience: float, show: Callable[[int], None]) -> None:
    """Return once the groups have read all copies. ``show`` gets the number of records that they have yet to read.

    Raises NotReadYet after ``patience`` seconds without progress.
    """
    ends = {
        partition: item.copies_end
        for partition, item in partitions.items()
        if item.cut > item.first and item.copies_end
    }
    if not ends:
        return
    last, since = -1, time.monotonic()
    while behind := left(settings, ends):
        lag = sum(behind.values())
        if lag != last:
            last, since = lag, time.monotonic()
            show(lag)
        if time.monotonic() - since > patience:
            shown = ", ".join(f"{group} {count}" for group, count in sorted(behind.items()))
            raise NotReadYet(
                f"records that groups have yet to read: {shown}. Start their processes, and run this again once they "
                "have; nothing was removed"
            )
        time.sleep(min(LOOK_SECONDS, patience))


def left(settings: Settings, ends: dict[TopicPartition, int]) -> dict[str, int]:
    """Return how many records each group has yet to read, without groups that have read all."""
    import kafka  # its import takes long
    from kafka.errors import KafkaError

    of_enrichment = {raw_topic(vendor) for vendor in ENRICHED}
    groups = {
        settings.group: ends,
        f"{settings.group}.enrich": {
            partition: end for partition, end in ends.items() if partition.topic in of_enrichment
        },
    }
    behind: dict[str, int] = {}
    try:
        with closing(kafka.KafkaAdminClient(**kafka_python(settings), client_id="fhirline-keys")) as admin:
            for group, wanted in groups.items():
                if not wanted:
                    continue
                asked = [kafka.TopicPartition(*partition) for partition in wanted]
                found = admin.list_group_offsets({group: asked})[group]
                count = sum(
                    max(0, wanted[TopicPartition(tp.topic, tp.partition)] - max(0, answer.offset))
                    for tp, answer in found.items()
                    if answer.offset >= 0 or (group != settings.group and _enriched(settings, tp.topic))
                )
                behind |= {group: count} if count else {}
    except KafkaError as error:
        raise KafkaRequestFailed(f"committed offsets could not be read: {type(error).__name__}") from None
    return behind


def _enriched(settings: Settings, topic: str) -> bool:
    """Tell whether any tenant's thin events of this raw topic are to be completed."""
    vendor = load_vendors(settings.vendors_file)[vendor_of(topic)]
    return any(vendor.settings(tenant).enrichment for tenant in vendor.tenants)
