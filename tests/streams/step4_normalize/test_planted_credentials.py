"""A credential planted anywhere, by any entrance, is in nothing that is made of an event (mapping.md §7).

The raw event keeps it, and so does the value of a dead letter, which is the raw event again.
"""

import json
import random
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fhirline.mappers.pipeline.redaction.redact import redact
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, from_confluent
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import raw_topic
from tests.crash.comparison import wait_drained
from tests.streams.step4_normalize.test_secrets import AT, CASES, read_back, written
from tests.support import cli
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.kafka.producing import patient_producer
from tests.support.mutations import places
from tests.support.processes import command
from tests.support.receiving import environment, running_gateway
from tests.support.waiting import LIMIT

PASSWORD = "xyzzy5528plugh"
DIGITS = "90715528"
BASE64 = urlsafe_b64encode(json.dumps({"sub": PASSWORD}).encode()).decode().rstrip("=")
MARKS = tuple(mark.encode() for mark in (PASSWORD, DIGITS, BASE64, b64encode(PASSWORD.encode()).decode().rstrip("=")))

CREDENTIALS = (
    f"Bearer {PASSWORD}{PASSWORD}",
    f"Authorization: Bearer {PASSWORD}{PASSWORD}",
    f"Authorization: Basic {b64encode(PASSWORD.encode()).decode()}",
    f"eyJhbGciOiJIUzI1NiJ9.{BASE64}.c2lnbmF0dXJl",
    f"https://rooms.example.org/7?X-Amz-Signature={PASSWORD}&X-Amz-Expires=300",
    f"//cdn.example.org/a.png?token={PASSWORD}",
    f"https://jane:{PASSWORD}@example.org/room",
    f"jane:{PASSWORD}@db.example.org",
    f"postgres:{PASSWORD}@10.0.0.4:5432/records",
    f"password: {PASSWORD}",
    f"the password is {PASSWORD}",
    f"your access code for the room is {PASSWORD}",
    f"la contraseña es {PASSWORD}",
    f"a senha é {PASSWORD}",
    f"كلمة السر هي {PASSWORD}",
    f"PIN: {DIGITS}",
    f"OTP is {DIGITS}",
    f"{DIGITS} is your verification code",
    f"código de acceso es {DIGITS}",
    f"رمز التحقق هو {DIGITS}",
    f"Set-Cookie: sid={PASSWORD}; Path=/",
    quote(f"password: {PASSWORD}"),
    json.dumps({"password": PASSWORD}),
)


def planted(body: dict[str, Any], rng: random.Random, credential: str) -> dict[str, Any]:
    """A body with a credential in the place of one of its texts, behind it, or in a new member of an object."""
    body = json.loads(json.dumps(body))
    found: list[tuple[Any, Any]] = [({"body": body}, "body")]
    for path in places(body):
        above: Any = body
        for step in path[:-1]:
            above = above[step]
        if path and isinstance(above[path[-1]], str | dict):
            found.append((above, path[-1]))
    above, step = rng.choice(found)
    if isinstance(above[step], dict):
        above[step]["extra"] = credential
    else:
        above[step] = rng.choice([credential, f"{above[step]} {credential}", f"Note. {credential}. Rest."])
    return body


def bodies(rng: random.Random, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Bodies of random cases, each with a credential, and the position of the case."""
    for number in range(count):
        position = rng.randrange(len(CASES))
        credential = CREDENTIALS[number % len(CREDENTIALS)]
        yield position, planted(rng.choice(CASES[position].events), rng, credential)


def shown(record: Any) -> bytes:
    """Return the parts of a record that must have no credential: of a raw event and a letter, the headers alone.

    The patient key is what the vendor sends for it, and is in the keys of raw events, letters and state.
    """
    if record.topic.startswith(("raw.", "dead-letter.")):
        return repr(record.headers).encode()
    key = (
        b"" if (record.key or b"").startswith((b"acme|", b"default|", b'["acme|', b'["default|')) else record.key or b""
    )
    return key + (record.value or b"") + repr(record.headers).encode()


def test_each_credential_has_a_mark_that_is_looked_for() -> None:
    for credential in CREDENTIALS:
        assert any(mark in credential.encode() for mark in MARKS), credential
        assert redact({"a": credential}) == {"a": credential}, "the raw event keeps it"


@settings(max_examples=150)
@given(position=st.integers(0, len(CASES) - 1), seed=st.integers(0, 2**32), credential=st.sampled_from([*CREDENTIALS]))
def test_no_credential_is_written(position: int, seed: int, credential: str) -> None:
    case, rng = CASES[position], random.Random(seed)
    body = orjson.dumps(planted(rng.choice(case.events), rng, credential))
    with capture_logs() as logged:
        gateway = raw_record(case.vendor, "acme", body, AT, case.route_event, 200)
        route = {"event_type": case.route_event} if case.route_event else {}
        sent = headers(received_at=AT.text, tenant="acme", **route)
        foreign = ConsumerRecord(f"raw.{case.vendor}", 0, 0, 0, b"k", body, sent)
        records = [*written(read_back(gateway), position), *written(foreign, position)]
    for record in records:
        assert not [mark for mark in MARKS if mark in shown(record)], (record.topic, credential)
    assert not [mark for mark in MARKS if mark in repr(logged).encode()]


@pytest.mark.long
def test_no_credential_is_in_a_topic_a_log_or_a_file(tmp_path: Path) -> None:
    """Real processes: many are planted by the gateway, by ingest and by a foreign producer."""
    rng, count = random.Random(15), 120
    with apache() as broker:
        create_topics(broker.bootstrap)
        own = settings_for(broker.bootstrap)
        environ = environment(broker.bootstrap, FHIRLINE_GROUP=own.group)
        with command("worker", environ=environ) as worker, running_gateway(broker.bootstrap, tmp_path) as gateway:
            for position, body in bodies(rng, count):
                case = CASES[position]
                route = f"/{case.route_event}" if case.route_event else ""
                assert gateway.post(f"/webhooks/{case.vendor}{route}", body).status == 202
            errors = ""
            for position, body in bodies(rng, count // 4):
                case = CASES[position]
                event = ["--event", case.route_event] if case.route_event else []
                line = orjson.dumps(body) + b"\n"
                done = cli.run("ingest", case.vendor, *event, "-", stdin=line, cwd=tmp_path, env=environ)
                assert done.returncode == 0, done.stderr
                errors += done.stdout + done.stderr
            producer = patient_producer(own)
            for position, body in bodies(rng, count):
                producer.produce(raw_topic(CASES[position].vendor), orjson.dumps(body), b"foreign")
            assert producer.flush(LIMIT) == 0
            wait_drained(own)
            logs = (worker.output + gateway.logged + errors).encode()
        names = AdminClient(librdkafka(own)).list_topics(timeout=LIMIT).topics
        with LogScanner(own) as scanner:
            records = [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(names)))]
    found = [(record.topic, mark) for record in records for mark in MARKS if mark in shown(record)]
    assert not found, sorted(set(found))
    assert {"raw.altibbi", "fhir.r4.Patient", "normalizer.state.altibbi"} <= {record.topic for record in records}
    assert not [mark for mark in MARKS if mark in logs]
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        assert not [mark for mark in MARKS if mark in file.read_bytes()], file
