"""``fhirline trace`` of encrypted events, also of those that can be read no more."""

import os
import subprocess

import orjson
import pytest

from fhirline.streams.kafka import headers
from fhirline.streams.kafka.encryption.key_ring import ERASED
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.operate.trace.find import Tracer
from fhirline.topics.declared import BUNDLE, KEYS, raw_topic
from tests.streams.operate.test_forget_encrypted_report import encrypting
from tests.support import cli
from tests.support.encryption import ENCRYPTION, sealed
from tests.support.erasure import erase
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import load_on
from tests.support.workload import events, produce

DESTROYED = "cannot be read: its data key is destroyed"


@pytest.fixture
def raws(own_broker: RunningBroker) -> list[ConsumerRecord]:
    """Events that a gateway has sealed. The patient of the first one is erased."""
    settings = own_broker.settings(encryption=ENCRYPTION)
    keys, made = sealed(settings, [event for event in events(60, seed=21) if event.topic == raw_topic("altibbi")])
    produce(settings, keys)
    written = produce(settings, made)
    erased = written[0]
    [index] = {item.data_key.index for item in made if item.event_key == event_of(erased) and item.data_key}
    produce(settings, [ProducerRecord(KEYS, f"{index}/{ERASED}".encode(), b"2026-11-27T12:00:00Z", erased.partition)])
    return written


def event_of(raw: ConsumerRecord) -> str:
    return header(raw.headers, headers.EVENT_KEY) or ""


@pytest.mark.long
def test_an_event_of_an_erased_patient_is_found_and_said_to_be_erased(
    own_broker: RunningBroker, raws: list[ConsumerRecord]
) -> None:
    environment = {**os.environ, "FHIRLINE_BOOTSTRAP": own_broker.bootstrap, "FHIRLINE_ENCRYPTION": ENCRYPTION}

    def trace(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return cli.run("trace", *arguments, env=environment)

    erased, *others = raws
    for what in (event_of(erased), str(erased.position)):
        found = trace(what)
        assert found.returncode == 0, found.stderr
        assert f"event {event_of(erased)}" in found.stdout
        [line] = [line for line in found.stdout.splitlines() if DESTROYED in line]
        assert str(erased.position) in line
        revealed = trace(what, "--json", "--explain", "--reveal", "--reason", "a test")
        assert revealed.returncode == 0, revealed.stderr
        document = orjson.loads(revealed.stdout)
        assert document["raw"] == [{"record": str(erased.position), "gone": True, "keyDestroyed": True}]
        assert (document["explained"], document["payloads"]) == ([], {})
        assert "raw event revealed" not in revealed.stderr
    other = next(raw for raw in others if raw.key != erased.key)
    found = trace(event_of(other), "--json", "--reveal", "--reason", "a test")
    assert [*orjson.loads(found.stdout)["payloads"]] == [str(other.position)]
    assert trace("0" * 64).returncode == 1


@pytest.mark.long
def test_the_bundle_of_an_erased_event_is_named_as_long_as_it_is_there(own_broker: RunningBroker) -> None:
    """`fhirline forget` reports that it remains, and that it can be read."""
    load = encrypting(load_on(own_broker))
    load.send(load.events(20, seed=21))
    patient = load.patient("altibbi")
    report = erase(load.settings, patient)
    bundles = [item for item in report.remaining if item.topic == BUNDLE]
    assert bundles
    with Scanner(load.settings) as scanner:
        tracer = Tracer(load.settings, scanner)
        traces = [tracer.event(event_of(raw)) for raw in load.raws if raw.key == patient.raw_key.encode()]
    assert sum(item.position.topic == BUNDLE for trace in traces for item in trace.messages) >= 1
    assert not [trace.written for trace in traces if trace.written or trace.made]
