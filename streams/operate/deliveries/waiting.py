"""Bundles that wait at the delivery: reading them, and ordering that they are sent (fhir-delivery.md §4)."""

from collections.abc import Iterable
from datetime import UTC, datetime

from fhirline.config.settings import Settings
from fhirline.streams.deliver.state import DeliveredPartition, resume_record
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import partition_of
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import DELIVERED


def read_waiting(settings: Settings) -> list[DeliveredPartition]:
    """Read all partitions of the delivery's state. Raises KafkaAccessError."""
    with Scanner(settings) as scanner:
        partitions = scanner.topic_partitions([DELIVERED])
        states = {partition: DeliveredPartition(partition.partition) for partition in partitions}
        for message in scanner.read(dict.fromkeys(partitions)):
            states[partition_of(message)].apply(message.key() or b"", message.value())
    return list(states.values())


def order_resumption(settings: Settings, states: Iterable[DeliveredPartition], patients: Iterable[str] | None) -> int:
    """Order that the waiting Bundles of patients (None: of all) are sent. Return the number of orders.

    A running delivery begins within seconds, another one when it starts. Raises PublishFailed.
    """
    order = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    chosen = None if patients is None else set(patients)
    records = []
    for state in states:
        here = {patient for found in state.waiting.values() for patient in found.patients}
        ordered = sorted(here if chosen is None else here & chosen)
        records += [resume_record(patient, state.partition, order) for patient in ordered]
    RecordPublisher(settings).publish(records)
    return len(records)
