"""The contract as an AsyncAPI document: it is valid, it is what topics/ declares, and every record keeps to it."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings
from fhirline.config.table_digests import tables_version
from fhirline.config.terminology import load_terminology
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.cli import topics as topics_command
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, headers_of
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.map_event import map_event
from fhirline.topics import examples
from fhirline.topics.asyncapi import as_yaml, document
from fhirline.topics.declared import dead_letter_topic, declared, raw_topic, state_topic
from fhirline.topics.messages import messages
from tests.oracles.packages import Unavailable, node_modules, unavailable
from tests.support import cli
from tests.support.encryption import ENCRYPTION, Sealer
from tests.support.kafka.brokers import RunningBroker, create_topics, settings_for
from tests.support.paths import ROOT
from tests.support.running_worker import running, wait_until_as
from tests.support.workload import RECEIVED_AT, Store, events, produce, undisturbed

COMMITTED = ROOT / "docs" / "asyncapi.yaml"


@cache
def contract() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMMITTED.read_text("utf-8"))
    return loaded


def fhirline(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return cli.run(*arguments, env={**clean, **more}, cwd=Path.cwd())


# The document


def test_the_committed_document_is_what_is_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env file
    for name in [item for item in os.environ if item.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    app, runner = typer.Typer(), CliRunner()
    topics_command.register(app)

    def check(file: Path) -> Result:
        return runner.invoke(app, ["topics", "asyncapi", "--check", str(file)])

    same = check(COMMITTED)
    assert (same.exit_code, same.output) == (0, ""), same.output
    other = tmp_path / "asyncapi.yaml"
    other.write_text(COMMITTED.read_text("utf-8").replace("partitions: 6", "partitions: 7", 1), "utf-8")
    assert check(other).exit_code == 1
    number = int(check(other).stderr.removeprefix(f"{other}:").partition(":")[0])
    assert other.read_text("utf-8").splitlines()[number - 1].strip() == "partitions: 7"
    assert runner.invoke(app, ["topics", "asyncapi"]).stdout == COMMITTED.read_text("utf-8")
    assert isinstance(check(tmp_path / "none").exception, ConfigurationError)


def test_it_is_valid_asyncapi() -> None:
    """By AsyncAPI's own JSON Schema, from its npm package."""
    try:
        schema = node_modules() / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    except Unavailable as error:
        unavailable(error)
    validator = jsonschema_rs.validator_for(json.loads(schema.read_text("utf-8")))
    assert [str(error) for error in validator.iter_errors(contract())] == []
    broken = {**contract(), "channels": {**contract()["channels"], "more": {"adress": "more"}}}
    assert not validator.is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(contract()):
        place = contract()
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {"$ref"}:
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_channels_and_configuration_are_those_of_the_declared_topics() -> None:
    settings = settings_for("127.0.0.1:9", partitions=3, replication_factor=2, message_max_bytes=100_000)
    channels = yaml.safe_load(as_yaml(document(settings)))["channels"]
    topics = {item.name: item for item in declared(settings)}
    assert channels.keys() == topics.keys()
    for name, topic in topics.items():
        kafka = channels[name]["bindings"]["kafka"]
        assert (kafka["topic"], kafka["partitions"], kafka["replicas"]) == (name, topic.partitions, 2)
        told = {key: ",".join(v) if isinstance(v, list) else str(v) for key, v in kafka["topicConfiguration"].items()}
        assert told == dict(topic.config)
        assert ("x-internal" in channels[name]) == name.startswith(
            ("fold.", "normalizer.state", "normalizer.d", "normalizer.e", "normalizer.k")
        )
        assert ("FHIRLINE_PARTITIONS" in channels[name]["description"]) == (topic.partitions == 3)


def test_a_topic_that_nobody_described_stops_the_document() -> None:
    with pytest.raises(LookupError, match="describe its records in topics/messages"):
        messages("fhir.r5.Patient")


def test_the_example_event_makes_the_example_resource() -> None:
    sent = examples.RAW_EVENT
    received = Instant.parse(sent["headers"]["received-at"])
    assert received
    made = raw_record("altibbi", "acme", orjson.dumps(sent["payload"]), received, None, 64)
    assert as_text(made.headers) == sent["headers"]
    records = map_event(made.at(0, 0), build_normalizer(settings_for("127.0.0.1:9")), InMemoryState(), 6).records
    patient = next(record for record in records if record.topic == "fhir.r4.Patient")
    assert orjson.loads(patient.value or b"") == examples.PATIENT["payload"]
    tables = {"tables-version": tables_version(load_terminology())}  # every new row of a table changes it
    assert as_text(patient.headers) == examples.PATIENT["headers"] | tables


def as_text(headers: list[tuple[str, bytes]]) -> dict[str, str]:
    return {name: value.decode() for name, value in headers}


# The records

SECRET = "0123456789abcdef0123456789abcdef"
NOT_JSON = ProducerRecord("raw.mediquo", b"acme|x", b"{", timestamp_ms=RECEIVED_AT * 1000)
FOREIGN = ProducerRecord(
    "raw.altibbi",
    b"default|4711",
    orjson.dumps({"type": "status_update", "user_id": 4711, "consultation_id": 1, "new_status": "closed"}),
    timestamp_ms=RECEIVED_AT * 1000,
)
"""A record of another producer: no headers."""


@pytest.mark.long
def test_every_record_of_a_worker_keeps_to_the_contract() -> None:
    """Events of all vendors, letters, a redrive and an erasure; then every record of every topic is looked at."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        settings = RunningBroker("embedded", broker.bootstrap).settings(session_timeout=6, erasure_key=SECRET)
        raws = produce(settings, [*events(150, seed=3), NOT_JSON, FOREIGN])
        store = Store(settings)
        environment = {"FHIRLINE_BOOTSTRAP": broker.bootstrap, "FHIRLINE_ERASURE_KEY": SECRET}
        try:
            with running(settings, **environment) as worker:
                wait_until_as(undisturbed(settings, raws), store, worker)
                redrive = ("dead-letters", "redrive", "--code", "resource-refused", "--wait", "30", "--yes")
                patient = ("--vendor", "altibbi", "--tenant", "default", "--patient", "4711")
                assert fhirline(*redrive, **environment).returncode == 1, "it fails again"
                assert (
                    fhirline("forget", *patient, "--settle", "0", "--yes", "--reason", "test", **environment).returncode
                    == 0
                )
        finally:
            store.close()
        seen, problems = inspected(settings)
    assert problems == [f"{NOT_JSON.topic} RawEvent: value: not JSON"], "the one that broke it on purpose"
    kinds = {"RawEvent", "DeadLetter", "StateEntry", "DeadLetterStatus", "ErasedPatient", "Bundle"}
    kinds |= {"Tombstone", "OutcomeTombstone"}
    assert kinds | {"OperationOutcome", "Patient", "Encounter", "Provenance"} <= seen


def inspected(settings: Settings) -> tuple[set[str], list[str]]:
    """Return the kinds of messages on the topics, and how records differ from what the contract says of them."""
    seen, problems = set(), []
    with Scanner(settings) as scanner:
        partitions = scanner.topic_partitions(topic.name for topic in declared(settings))
        for record in scanner.read(dict.fromkeys(partitions)):
            topic, key, value = record.topic() or "", (record.key() or b"").decode(), record.value()
            name = kind(topic, value)
            seen.add(name)
            sent = as_text(headers_of(record))
            problems += [f"{topic} {name}: {item}" for item in found(name, key, sent, value)]
    return seen, problems


def kind(topic: str, value: bytes | None) -> str:
    """Return the topic's message of null values, where it has one of its own, or else its first message."""
    names = [str(name) for name in contract()["channels"][topic]["messages"]]
    messages = contract()["components"]["messages"]
    nulls = [name for name in names if messages[name]["payload"] == {"type": "null"}] if value is None else []
    return (nulls or names)[0]


def found(name: str, key: str, headers: Mapping[str, str], value: bytes | None) -> Iterator[str]:
    """Return the parts of a record that are otherwise than its message says."""
    message = contract()["components"]["messages"][name]
    yield from violations("key", f"{name}/bindings/kafka/key", key)
    if "headers" in message:
        yield from violations("headers", f"{name}/headers", headers)
        declared_headers = contract()["components"]["schemas"][message["headers"]["$ref"].rpartition("/")[2]]
        yield from (f"undeclared header {header}" for header in headers.keys() - declared_headers["properties"].keys())
    elif headers:
        yield f"undeclared headers {sorted(headers)}"
    if "type" in message["payload"]:
        try:
            yield from violations("value", f"{name}/payload", None if value is None else json.loads(value))
        except json.JSONDecodeError:
            yield "value: not JSON"


VALIDATORS: dict[str, Any] = {}


def test_encrypted_records_and_their_keys_keep_to_the_contract() -> None:
    settings = settings_for("127.0.0.1:9", encryption=ENCRYPTION)
    sealer = Sealer(settings)
    raw = sealer(next(event for event in events(50, seed=3) if event.topic == raw_topic("altibbi")))
    assert raw.data_key
    mapped = map_event(NOT_JSON.at(0, 0), build_normalizer(settings), InMemoryState(), 6)
    letter = replace(mapped.records[-1], topic=dead_letter_topic("altibbi"))
    entry = b'{"s":[1,"","k","1970-01-01T00:00:01Z"],"v":1}'
    state = ProducerRecord(state_topic("altibbi"), orjson.dumps([raw.key.decode(), "Patient/1", "name"]), entry)
    [key] = sealer.made
    stored = {
        "EncryptedEvent": raw.data_key.seal(raw),
        "EncryptedDeadLetter": raw.data_key.seal(letter),
        "EncryptedStateEntry": raw.data_key.seal(state),
    }
    for name, record in stored.items():
        assert name in contract()["channels"][record.topic]["messages"]
        assert [*found(name, record.key.decode(), as_text([*record.headers]), b'"ciphertext"')] == []
        plain = [name for name in contract()["channels"][record.topic]["messages"] if not name.startswith("Encrypted")]
        assert [*found(plain[0], record.key.decode(), as_text([*record.headers]), b"{}")] != []
    tombstone = raw.data_key.seal(replace(state, value=None))
    assert [*found("EncryptedStateEntry", tombstone.key.decode(), as_text([*tombstone.headers]), None)] == []
    assert [*found("DataKey", key.key.decode(), {}, key.value)] == []
    for marker in (f"{key.key.decode()}/destroyed", f"{raw.data_key.index}/erased"):
        assert [*found("DestroyedKey", marker, {}, b'"2026-11-27T00:00:00Z"')] == []
        assert [*found("DataKey", marker, {}, key.value)] != []


def violations(what: str, place: str, instance: object) -> Iterator[str]:
    if place not in VALIDATORS:
        schema = {"$ref": f"#/components/messages/{place}", "components": contract()["components"]}
        VALIDATORS[place] = jsonschema_rs.validator_for(
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "allOf": [schema],
                "components": schema["components"],
            }
        )
    yield from (f"{what}: {error.message}" for error in VALIDATORS[place].iter_errors(instance))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Patient", {"key": "Encounter/ed51dc6d-21a2-5226-8e76-f70c1eefdde8"}),
        ("Patient", {"headers": {"vendor": "altibbi"}}),
        ("Patient", {"headers": {**examples.PATIENT["headers"], "name": "x"}}),
        ("Patient", {"headers": {**examples.PATIENT["headers"], "raw": "raw.altibbi"}}),
        ("Patient", {"value": b'{"resourceType":"Person","id":"1"}'}),
        ("Tombstone", {"value": b"{}"}),
    ],
)
def test_what_breaks_the_contract_is_found(name: str, change: dict[str, Any]) -> None:
    kept = {
        "key": "Patient/ed51dc6d-21a2-5226-8e76-f70c1eefdde8",
        "headers": examples.PATIENT["headers"],
        "value": None if name == "Tombstone" else orjson.dumps(examples.PATIENT["payload"]),
    }
    assert [*found(name, **kept)] == []
    assert [*found(name, **{**kept, **change})] != []
