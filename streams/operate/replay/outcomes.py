"""``--outcomes``: write the OperationOutcomes of the events again, for tables that count the flags of events.

An OperationOutcome is what the mapping says of one event over the state of that moment (mapping.md §5.2), and is not
compared. So they are made in a pass of their own, in the order of the events, over state that begins as it did then:
empty. That is why all events of a partition have to be selected.

Afterwards the topic is read once. An event that had one, and has none today, gets a null value under its key. An event
that was redriven after the range has the outcome of its redriven record, which a live worker wrote: where ours came
after it, it is written again.
"""

from collections.abc import Iterator, Mapping, Sequence

from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import RAW, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import (
    ConsumerRecord,
    ProducerRecord,
    RecordPosition,
    TopicPartition,
    from_confluent,
)
from fhirline.streams.operate.replay.offset_ranges import OffsetRange
from fhirline.streams.operate.replay.remap import BATCH, Job, this_process
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import OUTCOME

Ends = Mapping[TopicPartition, int]


def send(job: Job) -> int:
    """Send a job's OperationOutcomes, as a task of a mapping process. Return how many are larger than Kafka takes.

    Sending them again sends the same. Ends early where the run is stopped.
    """
    process = this_process()
    offset_range, partition = job.offset_range, job.offset_range.topic_partition
    publisher, state = RecordPublisher(process.settings), process.remapper.base(job)
    pending: list[ProducerRecord] = []
    too_large = 0
    with Scanner(process.settings) as scanner:
        for message in scanner.read({partition: offset_range.start}, {partition: offset_range.end}):
            mapped, _ = process.remapper.map(from_confluent(message), job, state)
            pending.extend(record for record in mapped.records if record.topic == OUTCOME)
            if len(pending) >= BATCH:
                too_large += len(publisher.publish(pending))
                pending = []
            if process.stopped():
                break
    return too_large + len(publisher.publish(pending))


def ends(settings: Settings) -> Ends:
    """Return where the topic's partitions end: what is behind it has been written since."""
    with Scanner(settings) as scanner:
        return {place: scanner.end(*place) for place in scanner.topic_partitions([OUTCOME])}


def settle(settings: Settings, ranges: Sequence[OffsetRange], before: Ends) -> int:
    """Write null values for outcomes that no event has today, and later ones again that ours cover.

    ``before``: where the topic ended when the first of ours was sent. Return how many are larger than Kafka takes.
    """
    of_partition = {item.topic_partition: item for item in ranges}
    publisher, too_large = RecordPublisher(settings), 0
    with Scanner(settings) as scanner:
        for place, end in before.items():
            too_large += len(publisher.publish([*_settling(scanner, place, end, of_partition)]))
    return too_large


def _settling(
    scanner: Scanner, place: TopicPartition, end: int, ranges: Mapping[TopicPartition, OffsetRange]
) -> Iterator[ProducerRecord]:
    """Yield what has to be written to a partition of the topic."""
    newest: dict[bytes, int] = {}
    """Key of an outcome of the range → offset."""
    later: dict[bytes, ConsumerRecord] = {}
    """Key → the outcome of an event after the range."""
    for message in scanner.read({place: None}):
        record = from_confluent(message)
        raw = RecordPosition.parse(header(record.headers, RAW))
        of_range = ranges.get(raw.topic_partition) if raw else None
        if record.key is None:
            continue
        if record.value is None or raw is None or of_range is None or raw.offset < of_range.start:
            newest.pop(record.key, None)
            later.pop(record.key, None)
        elif raw.offset < of_range.end:
            newest[record.key] = record.offset
        else:
            newest.pop(record.key, None)
            later[record.key] = record
    for key, offset in newest.items():
        if offset < end:
            yield ProducerRecord(OUTCOME, key, None, place.partition)
        elif (covered := later.get(key)) is not None:
            yield ProducerRecord(OUTCOME, key, covered.value, place.partition, covered.headers)
