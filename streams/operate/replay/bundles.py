"""``--bundles``: the transaction Bundles of a range's events, sent again for readers that PUT them to a server.

A Bundle is a message about one event at one time (mapping.md §3.1). One that was made while a replay had heard of half
the events would take a server back in time. So they are made in a pass of their own, when everything is mapped and
published: over the final registers, each event's Bundle holds every folded resource as it reads now, and leaves out
what a later event has written.
"""

from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, from_confluent
from fhirline.streams.operate.replay.remap import AT_A_TIME, Job, in_process
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import BUNDLE


def send(job: Job) -> int:
    """A task: how many Bundles are larger than Kafka takes. Repeated, it sends the same.

    Ends early where it is told to stop.
    """
    here = in_process()
    if here.stopped():
        return 0
    span = job.span
    publisher = RecordPublisher(here.settings)
    state = here.mapping.final(job)
    pending: list[ProducerRecord] = []
    too_large = 0
    with Scanner(here.settings) as scanner:
        for message in scanner.read({span.place: span.start}, {span.place: span.end}):
            raw = from_confluent(message)
            if job.selects(raw):
                followed, _ = here.mapping.map(raw, job, state)
                pending.extend(each for each in followed.records if each.topic == BUNDLE)
            if len(pending) >= AT_A_TIME:
                too_large += len(publisher.publish(pending))
                pending = []
                if here.stopped():
                    break
    return too_large + len(publisher.publish(pending))
