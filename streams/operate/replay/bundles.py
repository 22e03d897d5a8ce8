"""``--bundles``: send the transaction Bundles of a range's events again, for readers that PUT them to a server.

A Bundle is a message about one event at one time (mapping.md §3.1). If it were made while a replay had mapped half of
the events, it would set a server back in time. So Bundles are made in a pass of their own, after everything is mapped
and published. Over the final state, each event's Bundle contains every folded resource as it is now, and leaves out
what a later event has written.
"""

from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, from_confluent
from fhirline.streams.operate.replay.remap import BATCH, Job, this_process
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import BUNDLE


def send(job: Job) -> int:
    """Send a job's Bundles, as a task of a mapping process. Return how many are larger than Kafka takes.

    Sending them again sends the same. Ends early where the run is stopped.
    """
    process = this_process()
    if process.stopped():
        return 0
    offset_range, partition = job.offset_range, job.offset_range.topic_partition
    publisher = RecordPublisher(process.settings)
    state = process.remapper.final_state(job)
    pending: list[ProducerRecord] = []
    too_large = 0
    with Scanner(process.settings) as scanner:
        for message in scanner.read({partition: offset_range.start}, {partition: offset_range.end}):
            raw = from_confluent(message)
            if job.selects(raw):
                mapped, _ = process.remapper.map(raw, job, state)
                pending.extend(record for record in mapped.records if record.topic == BUNDLE)
            if len(pending) >= BATCH:
                too_large += len(publisher.publish(pending))
                pending = []
                if process.stopped():
                    break
    return too_large + len(publisher.publish(pending))
