"""Events of one vendor that a worker has mapped with encryption, and whether an erased patient's can be read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.headers import EVENT_TYPE, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.operate.erasure.report import Report
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Compartment
from fhirline.topics.declared import KEYS, dead_letter_topic, raw_topic, state_topic
from tests.support.encryption import ENCRYPTION, secrets_of
from tests.support.erasure import RECEIVED_AT, SECRET, busiest, of
from tests.support.kafka.brokers import create_topics, settings_for
from tests.support.running_worker import running, wait_until_as
from tests.support.workload import Store, events, produce, undisturbed

VENDOR = "altibbi"
KEPT = (raw_topic(VENDOR), dead_letter_topic(VENDOR), state_topic(VENDOR))
OWN = {"FHIRLINE_ERASURE_KEY": SECRET, "FHIRLINE_ENCRYPTION": ENCRYPTION}


@dataclass
class Deployment:
    """Events of one vendor that a worker has mapped, and the patient with the most of them."""

    settings: Settings
    raws: list[ConsumerRecord]
    patient: Compartment

    @property
    def index(self) -> str:
        return secrets_of(self.settings).index(self.patient.partition_key)

    def erase(self) -> Report:
        erasure = Erasure(self.settings, self.patient)
        try:
            return erasure.erase(erasure.find(), 0)
        finally:
            erasure.close()

    def stored(self, *topics: str) -> list[ConsumerRecord]:
        with LogScanner(self.settings) as scanner:
            return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(topics)))]

    def readable(self, *topics: str) -> list[ConsumerRecord]:
        with Scanner(self.settings) as scanner:
            return [from_confluent(item) for item in scanner.read(dict.fromkeys(scanner.topic_partitions(topics)))]

    def mine(self, records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
        """Return the patient's records among those that were opened."""
        owners = (self.patient.raw_key.encode(), orjson.dumps([self.patient.raw_key])[:-1] + b",")
        return [record for record in records if (record.key or b"").startswith(owners) and record.value is not None]

    def event(self, number: int) -> ProducerRecord:
        """Make another event of the patient."""
        raw = next(raw for raw in self.raws if of(raw, [self.patient]))
        body = {**orjson.loads(raw.value or b""), "later": number}
        return raw_record(
            VENDOR, self.patient.tenant, orjson.dumps(body), RECEIVED_AT, header(raw.headers, EVENT_TYPE), 64
        )


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = settings_for(broker.bootstrap, session_timeout=6, erasure_key=SECRET, encryption=ENCRYPTION)
        raws = produce(settings, [event for event in events(120, seed=13) if event.topic == raw_topic(VENDOR)])
        store = Store(settings)
        with running(settings, **OWN) as worker:
            wait_until_as(undisturbed(settings, raws), store, worker)
        store.close()
        yield Deployment(settings, raws, busiest(raws)[VENDOR])


def check_erased(deployment: Deployment, readable: list[ConsumerRecord]) -> None:
    """Check that nothing of the patient can be read, and everything else still can. ``readable``: what could before."""
    index = deployment.index.encode()
    others = [record for record in readable if record not in deployment.mine(readable)]
    found = deployment.readable(*KEPT)
    assert deployment.mine(found) == []
    positions = {record.position for record in found}
    assert {record.position for record in others} <= positions
    keys = {record.key: record.value for record in deployment.stored(KEYS) if (record.key or b"").startswith(index)}
    living = [key for key, value in keys.items() if (key or b"").count(b"/") == 1 and value is not None]
    assert living == [index + b"/erased"]
    assert sum((key or b"").endswith(b"/destroyed") and value is not None for key, value in keys.items()) == 1
    state = {record.key: record.value for record in deployment.stored(KEPT[2]) if (record.key or b"").startswith(index)}
    assert state
    assert set(state.values()) == {None}
