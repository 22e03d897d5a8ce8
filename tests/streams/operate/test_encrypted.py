"""No topic but those that consumers read has a patient's text or number in clear (docs/encryption.md)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.headers import REDRIVE, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, from_confluent
from fhirline.topics.declared import (
    BUNDLE,
    CONTRIBUTIONS,
    DELIVERED,
    DELIVERED_SHARED,
    DELIVERY_LETTERS,
    ERASED,
    KEYS,
    OUTCOME,
    declared,
)
from tests.streams.deliver.test_deliver import poison
from tests.support import cli
from tests.support.delivery import delivering, wait_until_delivered
from tests.support.ehr.fixture import EhrServers
from tests.support.encryption import ENCRYPTION, sealed
from tests.support.erasure import SECRET, busiest
from tests.support.kafka.brokers import create_topics, settings_for
from tests.support.planted import planted_events, showing, shows
from tests.support.running_worker import running, wait_until_as
from tests.support.workload import Store, produce, undisturbed

READ_BY_CONSUMERS = ("fhir.r4.",)
"""Topics whose records are in clear on purpose."""

NO_PATIENT = b'["","Practitioner/'
"""Beginning of the key of a Practitioner's state entry."""

SHORTEST = 9
"""Characters of a text that is looked for: shorter ones may lie in ciphertext by chance."""


def texts(value: Any, key: str = "") -> Iterator[str]:
    """Yield every text and number of a body that may be a patient's. Names of event types are no patient's."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, key)
    elif isinstance(value, str | int) and "event" not in key.lower() and len(str(value)) >= SHORTEST:
        yield str(value)


@pytest.mark.long
def test_every_other_topic_is_read_byte_by_byte(tmp_path: Path, ehr_server: EhrServers) -> None:
    """After events, enriched ones too, dead letters, a redrive, a replay, a delivery and an erasure."""
    server = ehr_server()
    server.clear()
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = settings_for(broker.bootstrap, session_timeout=6, encryption=ENCRYPTION, erasure_key=SECRET)
        keys, raws = sealed(settings, planted_events(150, seed=21))
        planted = {text.encode() for raw in raws for text in texts(orjson.loads(raw.value or b""))}
        planted |= {raw.key for raw in raws}
        assert len(planted) > 300
        produce(settings, keys)
        written = produce(settings, raws)
        store = Store(settings)
        environment = {
            "FHIRLINE_ENCRYPTION": ENCRYPTION,
            "FHIRLINE_ERASURE_KEY": SECRET,
            "FHIRLINE_REPLAY_DIR": str(tmp_path / "replays"),
        }
        command = {**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, **environment}

        def fhirline(*arguments: str, code: int = 0) -> str:
            done = cli.run(*arguments, cwd=tmp_path, env=command)
            assert done.returncode == code, done.stderr
            return done.stdout

        patient = busiest(written)["altibbi"]
        named = ("--vendor", patient.vendor, "--tenant", patient.tenant, "--patient", patient.key)
        with running(settings, **environment) as worker:
            wait_until_as(undisturbed(settings, written), store, worker)
            fhirline("dead-letters", "redrive", "--yes", code=1)  # they fail again
            assert "written" in fhirline("replay", "--publish", "--all", code=1)  # and again
            produce(settings, [refused_bundle(settings)])
            with delivering(settings, server.base, FHIRLINE_ERASURE_KEY=SECRET) as delivery:
                wait_until_delivered(settings, delivery)
                fhirline("forget", *named, "--yes", "--reason", "test", "--settle", "0")
                wait_until_delivered(settings, delivery)
        store.close()
        topics = [
            topic.name
            for topic in declared(settings)
            if topic.name not in (BUNDLE, OUTCOME) and not topic.name.startswith(READ_BY_CONSUMERS)
        ]
        assert set(map("raw.{}".format, VENDORS)) < set(topics)
        with LogScanner(settings) as scanner:
            stored = [*map(from_confluent, scanner.stored(dict.fromkeys(scanner.topic_partitions(topics))))]
        with Scanner(settings) as scanner:
            opened = [*map(from_confluent, scanner.read(dict.fromkeys(scanner.topic_partitions(topics))))]
    counted = {topic: sum(record.topic == topic for record in stored) for topic in topics}
    for some in (*WRITTEN, ERASED, DELIVERED, DELIVERED_SHARED, DELIVERY_LETTERS, CONTRIBUTIONS, KEYS):
        assert counted[some], f"{some} is empty"
    assert any(header(record.headers, REDRIVE) for record in stored if record.topic.startswith("raw."))
    marks = showing(opened)
    for some in WRITTEN:
        assert any(position.startswith(f"{some}/") for position in marks), f"nothing was planted in {some}"
    assert showing(stored) == []
    patients = {raw.key for raw in raws}
    for record in stored:
        shown = shown_by(record)
        professional = record.topic == CONTRIBUTIONS or (record.key or b"").startswith(NO_PATIENT)
        found = [text for text in (patients if professional else planted) if text in shown]
        assert not found, f"{record.position} shows {len(found)} of them"


WRITTEN = (
    *("raw.altibbi", "raw.azodha", "raw.mediquo", "raw.infermedica.enriched"),
    *("dead-letter.altibbi", "dead-letter.mediquo"),
    *("normalizer.state.altibbi", "normalizer.state.azodha", "normalizer.state.infermedica.enriched"),
)
"""Topics whose sealed records have marks."""


def refused_bundle(settings: Settings) -> ProducerRecord:
    """Return a Bundle with marks that no FHIR server takes."""
    with Scanner(settings) as scanner:
        bundles = map(from_confluent, scanner.read(dict.fromkeys(scanner.topic_partitions([BUNDLE]))))
        of_a_patient = (
            item for item in bundles if shows(item.value or b"") and b'"Provenance"' in (item.value or b"")[-4_000:]
        )
        found = next(of_a_patient)
    return poison(ProducerRecord(found.topic, found.key or b"", found.value, found.partition, found.headers))


def shown_by(record: ConsumerRecord) -> bytes:
    return b"\n".join([record.key or b"", record.value or b"", *(value for _, value in record.headers)])


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FHIRLINE_")]:
        monkeypatch.delenv(name)
