"""Sending the messages about a range's events once more: their Bundles, or their OperationOutcomes.

For a patient who is erased while this runs, nothing may be written after `forget` has searched for the last time. So
events are sent in batches as small as a worker's, and the erasure list is read before a batch is mapped and again
before it is sent (`step3_restore.erasure_list_feed`).
"""

from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, from_confluent
from fhirline.streams.operate.replay.remap import BATCH, Job, Process
from fhirline.streams.step3_restore.state import PartitionState
from fhirline.streams.step5_publish.publish import RecordPublisher


def send(process: Process, job: Job, topic: str, state: PartitionState) -> int:
    """Map a job's events again over ``state``, and send their records of a topic.

    Return how many are larger than Kafka takes. Ends early where the run is stopped.
    """
    offset_range, partition = job.offset_range, job.offset_range.topic_partition
    publisher = RecordPublisher(process.settings)
    pending: list[tuple[str, ProducerRecord]] = []
    events = too_large = 0

    def flush() -> int:
        remapper, vendor = process.remapper, offset_range.vendor
        records = [record for key, record in pending if not remapper.erased(vendor, key)]
        pending.clear()
        return len(publisher.publish(records))

    with Scanner(process.settings) as scanner:
        for message in scanner.read({partition: offset_range.start}, {partition: offset_range.end}):
            raw = from_confluent(message)
            if job.selects(raw):
                mapped, _ = process.remapper.map(raw, job, state)
                pending.extend((mapped.key, record) for record in mapped.records if record.topic == topic)
            events += 1
            if events % BATCH == 0:
                too_large += flush()
                if process.stopped():
                    break
    return too_large + flush()
