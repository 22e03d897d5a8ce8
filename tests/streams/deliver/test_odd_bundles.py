"""Records of the Bundle topic that no worker of ours has written."""

import json
from typing import Any

import orjson
import pytest

from fhirline.streams.deliver.entries import UnreadableBundle, entries_of, transaction
from fhirline.streams.kafka.records import ProducerRecord, produce
from fhirline.topics.declared import BUNDLE, DELIVERED, canonical_topic
from tests.streams.deliver.test_authorization import some_records
from tests.support.delivery import delivering, filling, letters, records_of, wait_until_delivered, waiting, write
from tests.support.kafka.brokers import RunningBroker
from tests.support.kafka.producing import patient_producer
from tests.support.raw_server import RawServer, Request, keys_of, statement, stored
from tests.support.waiting import LIMIT

SOME = 30
"""One in so many golden cases."""

NAMED = "Abdurrahman"
"""A patient's name in Bundles: it is nowhere else."""


def put(url: Any, resource: Any, **more: Any) -> bytes:
    entry = {"resource": resource, "request": {"method": "PUT", "url": url}, **more}
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).encode()


def delete(url: Any) -> bytes:
    return json.dumps({"entry": [{"request": {"method": "DELETE", "url": url}}]}).encode()


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return {"resourceType": "Basic", "id": "1", "x": value}


POISON = [
    b"",
    b"{}",
    b"[]",
    b"\xff\xfe{}",
    b'{"entry":[]}',
    b'{"entry":{"request":{}}}',
    b'{"entry":[null]}',
    put("Patient/1", [1]),
    put("Patient/1", "Patient/1"),
    put("Patient/1", False),
    put("Patient/1", {"resourceType": "Patient", "id": "2"}),
    put("Patient/1", {"resourceType": "Person", "id": "1"}),
    put("Patient/1", {"id": "1"}),
    put(["Patient/1"], {"resourceType": "Patient", "id": "1"}),
    put(f"Patient?identifier={NAMED}", {"resourceType": "Patient", "id": "1"}),
    put("https://elsewhere.example/Patient/1", {"resourceType": "Patient", "id": "1"}),
    put("Patient/../Person/1", {"resourceType": "Patient", "id": "../Person/1"}),
    put("waiting/1", {"resourceType": "waiting", "id": "1"}),
    delete("waiting/1"),
    delete("resume/Patient/1"),
    delete("topic/fhir.r4.bundle"),
    delete("Patient/1/_history/1"),
    put("Basic/1", nested(253)),
    put("Basic/1", nested(252)),
    put("Basic/1", nested(900)),
    b'{"entry":[{"request":{"method":"POST","url":"Patient"},"resource":{"resourceType":"Patient"}}]}',
]


@pytest.mark.parametrize("levels", [1, 100, 200, 250, 251, 252, 253, 900])
def test_what_can_be_read_can_be_sent(levels: int) -> None:
    """JSON that is read may be nested more deeply than what can be written, and a Bundle is written around it."""
    try:
        entries = entries_of(put("Basic/1", nested(levels)))
    except UnreadableBundle:
        assert levels > 200
    else:
        assert orjson.loads(transaction(entries))["entry"][0]["resource"] == nested(levels)


def stored_or_statement(request: Request) -> bytes:
    """Answer as a FHIR server that takes everything."""
    return statement() if request.method == "GET" else stored(request)


def confirmed_by(server: RawServer) -> set[str]:
    """Return what transactions have stored or deleted, as ``Type/id``."""
    return {key for request in server.requests if request.method == "POST" for key in keys_of(request)}


@pytest.mark.long
def test_what_is_no_bundle_of_ours_is_a_dead_letter(own_broker: RunningBroker) -> None:
    """The server never sees it, no record of the state has its name, and what comes behind it is delivered."""
    settings = own_broker.settings()
    before, behind = [*some_records(settings, SOME)], [*some_records(settings, SOME + 1)]
    odd = [ProducerRecord(BUNDLE, f"odd-{number}".encode(), value, 0) for number, value in enumerate(POISON)]
    write(settings, [*before, *odd, *behind])
    ours = {entry.key for item in (*before, *behind) if item.topic == BUNDLE for entry in entries_of(item.value)}
    with RawServer(stored_or_statement) as server:
        with delivering(settings, server.base) as process:
            wait_until_delivered(settings, process)
        assert process.exit_code == 0, process.report("did not end in order")
        found = letters(settings)
        assert found.keys() == {f"odd-{number}" for number in range(len(POISON))}
        assert all(letter.keys() == {"bundle"} for letter in found.values())
        assert confirmed_by(server) == ours
        assert waiting(settings) == []
        state = {key for _, key in records_of(settings, DELIVERED)}
        assert state <= ours | {"topic/fhir.r4.bundle"}
        assert NAMED not in process.output
        with delivering(settings, server.base) as process:  # the state can be read again
            process.wait_for("partitions assigned")
            write(settings, some_records(settings, SOME + 2))
            wait_until_delivered(settings, process)


NO_RESOURCES = [
    (b"Practitioner/1", b"{"),
    (b"Practitioner/1", b"[]"),
    (b"Practitioner/1", b"\xff"),
    (b"Practitioner/1", b'{"resourceType":"Practitioner","id":"2"}'),
    (b"Practitioner/1", b'{"resourceType":"Practitioner","id":"1","x":' + b"[" * 253 + b"]" * 253 + b"}"),
    (b"Practitioner/\xff", b"{}"),
    (b"Patient/1", b'{"resourceType":"Patient","id":"1"}'),
    (b"Abdurrahman", None),
]


@pytest.mark.long
@pytest.mark.parametrize("source", ["bundles", "topics"])
def test_what_is_no_resource_on_a_topic_of_resources_is_passed_over(own_broker: RunningBroker, source: str) -> None:
    """Its position is logged, and all else is delivered, from Bundles and from the topics."""
    settings = own_broker.settings()
    topic = canonical_topic("Practitioner")
    odd = [ProducerRecord(topic, key, value, 0) for key, value in NO_RESOURCES]
    expected = write(settings, some_records(settings, SOME))
    producer = patient_producer(settings)
    for record in odd:
        produce(producer, record)
    assert producer.flush(LIMIT) == 0
    with RawServer(stored_or_statement) as server:
        if source == "topics":
            with filling(settings, server.base) as process:
                assert process.wait(LIMIT) == 0, process.output
        else:
            with delivering(settings, server.base) as process:
                wait_until_delivered(settings, process)
    assert confirmed_by(server) >= expected.keys()
    assert not {"Practitioner/1", "Patient/1"} & confirmed_by(server)
    for number in range(len(NO_RESOURCES)):
        assert f"{topic}/0/{number}" in process.output
    assert NAMED not in process.output
