"""``--bundles``: send the transaction Bundles of a range's events again, for readers that PUT them to a server.

A Bundle is a message about one event at one time (mapping.md §3.1). If it were made while a replay had mapped half of
the events, it would set a server back in time. So Bundles are made in a pass of their own, after everything is mapped
and published. Over the final state, each event's Bundle contains every folded resource as it is now, and leaves out
what a later event has written.
"""

from fhirline.streams.operate.replay import messages
from fhirline.streams.operate.replay.remap import Job, this_process
from fhirline.topics.declared import BUNDLE


def send(job: Job) -> int:
    """Send a job's Bundles, as a task of a mapping process. Return how many are larger than Kafka takes.

    A second call sends the same. Ends early where the run is stopped.
    """
    process = this_process()
    return 0 if process.stopped() else messages.send(process, job, BUNDLE, process.remapper.final_state(job))
