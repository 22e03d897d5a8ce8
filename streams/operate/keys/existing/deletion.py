"""Removal of the records that were copied: everything before an offset of a partition (DeleteRecords)."""

from collections.abc import Mapping

import confluent_kafka
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka, new_client
from fhirline.streams.kafka.embedded_quirks import is_embedded
from fhirline.streams.kafka.records import TopicPartition

TIMEOUT = 60.0


def can_delete(settings: Settings) -> bool:
    """Tell whether the broker can delete records: the embedded one cannot. Raises KafkaRequestFailed."""
    client = new_client(AdminClient, librdkafka(settings, **{"log_level": 0}))
    try:
        cluster = client.list_topics(timeout=TIMEOUT).cluster_id
    except KafkaException as error:
        raise KafkaRequestFailed(f"FHIRLINE_BOOTSTRAP: {settings.bootstrap}: {error.args[0].str()}") from None
    return not is_embedded(cluster)


def delete_before(settings: Settings, offsets: Mapping[TopicPartition, int]) -> None:
    """Delete the records before an offset of each partition. Raises KafkaRequestFailed."""
    if not offsets:
        return
    client = new_client(AdminClient, librdkafka(settings, **{"log_level": 0}))
    asked = [confluent_kafka.TopicPartition(*partition, offset) for partition, offset in offsets.items()]
    refused = []
    for partition, future in client.delete_records(asked, request_timeout=TIMEOUT, operation_timeout=TIMEOUT).items():
        try:
            future.result()
        except KafkaException as error:
            refused.append(f"{partition.topic}/{partition.partition}: {error.args[0].name()}")
    if refused:
        raise KafkaRequestFailed(f"records could not be deleted: {', '.join(refused[:5])}; run this again")
