"""``--bundles``: the transaction Bundles of a range's events, sent again for readers that PUT them to a server.

A Bundle is a message about one event at one time (mapping.md §3.1). One that was made while a replay had heard of half
the events would take a server back in time. So they are made in a pass of their own, when everything is mapped and
published: over the final registers, each event's Bundle holds every folded resource as it reads now, and leaves out
what a later event has written.
"""

from streams.records import OutRecord
from streams.replay.remap import AT_A_TIME, Job, in_process
from streams.scan import Scanner, raw_record
from streams.step5_deliver import Deliverer
from topics.declared import BUNDLE


def send(job: Job) -> bool:
    """A task. Whether it came to the end of the job's span; repeated, it sends the same."""
    here = in_process()
    span = job.span
    deliverer = Deliverer(here.settings)
    state = here.mapping.final(job)
    pending: list[OutRecord] = []
    with Scanner(here.settings) as scanner:
        for message in scanner.read({span.place: span.start}, {span.place: span.end}):
            raw = raw_record(span.vendor, message)
            if job.selects(raw):
                followed = here.mapping.follow(raw, state)
                pending.extend(each for each in followed.records if each.topic == BUNDLE)
            if len(pending) >= AT_A_TIME:
                deliverer.deliver(pending)
                pending = []
                if here.stopped():
                    return False
    deliverer.deliver(pending)
    return True
