"""Events of one tenant, mapped and delivered."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from uuid import uuid4

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, TopicPartition
from fhirline.streams.operate.erasure.mapped import CANONICAL
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.contribution_cache import PartitionContributions
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step3_restore.state import state_record
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import CONTRIBUTIONS, state_topic
from tests.support.erasure import SECRET, busiest, of
from tests.support.kafka.brokers import RunningBroker
from tests.support.last_records import ALL, held
from tests.support.workload import events, practitioners, produce, undisturbed


@dataclass
class Load:
    """Events of one tenant, mapped and delivered in this process as a worker would.

    ``at_receipt``: each raw record is a request of its own, and what follows from it is written some 80 milliseconds
    after its receipt, as where a gateway and a worker run. Otherwise it is written at present.
    """

    settings: Settings
    tenant: str
    at_receipt: bool = False
    raws: list[ConsumerRecord] = field(default_factory=list)
    contributions: PartitionContributions = field(default_factory=PartitionContributions)

    def send(self, records: Iterable[ProducerRecord], kept: bool = True) -> list[ConsumerRecord]:
        """Produce raw records and what follows from them. ``kept`` False: as if raw's retention were over."""
        if kept:
            raws = produce(self.settings, records, one_by_one=self.at_receipt)
        else:
            raws = [replace(record.at(0, 10**9 + n), timestamp_ms=0) for n, record in enumerate(records)]
        erased = ErasureListFeed(self.settings)
        erased.refresh()
        normalize = build_normalizer(self.settings)
        memories: dict[TopicPartition, InMemoryState] = {}
        out: list[ProducerRecord] = []
        for raw in raws:
            memory = memories.setdefault(raw.topic_partition, InMemoryState())
            followed = map_event(raw, normalize, memory, self.settings.partitions, erased.erasure_list.blocks)
            memory.apply(followed.state_updates)
            state = state_topic(raw.vendor, raw.topic.endswith(".enriched"))
            at = raw.timestamp_ms + 60 + raw.offset * 7 % 40 if self.at_receipt else None
            out += [replace(made, timestamp_ms=at or made.timestamp_ms) for made in followed.records]
            out += [state_record(state, raw.partition, followed.key, update) for update in followed.state_updates]
        for record in out:
            if record.topic == CONTRIBUTIONS:
                self.contributions.read(record.key, record.value, record.headers)
        out += practitioners(normalize, self.contributions, self.settings.partitions)
        RecordPublisher(self.settings).publish(out)
        erased.close()
        self.raws += raws
        return raws

    def events(self, count: int, seed: int) -> Iterator[ProducerRecord]:
        for event in events(count, seed):
            route = header(event.headers, "event-type")
            at = Instant.parse(header(event.headers, "received-at"))
            assert at
            yield raw_record(event.topic.removeprefix("raw."), self.tenant, event.value or b"", at, route, 64)

    def patient(self, vendor: str) -> Compartment:
        return replace(busiest(self.raws)[vendor], tenant=self.tenant)

    def made_of(self, patient: Compartment) -> set[str]:
        """``topic key`` of the canonical records that follow from the patient's events and belong to nobody else."""
        made = undisturbed(self.settings, [raw for raw in self.raws if of(raw, [patient])])
        return {name for name in made if name.partition(" ")[0] in CANONICAL}

    def live(self, names: Iterable[str]) -> set[str]:
        values = {f"{topic} {key.decode()}": value for (topic, _, key), (value, _) in held(self.settings, *ALL).items()}
        return {name for name in names if values.get(name) is not None}


def load_on(broker: RunningBroker) -> Load:
    """A tenant of its own."""
    return Load(broker.settings(erasure_key=SECRET, session_timeout=6), f"t-{uuid4().hex[:12]}")
