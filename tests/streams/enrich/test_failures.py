"""Calls that fail: temporary failures are retried, permanent ones become dead letters."""

import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from fhirline.topics.declared import raw_topic
from tests.support.enriching import (
    ENRICHED,
    LETTERS,
    RECEIVED_AT,
    TENANT,
    Reading,
    committed,
    enriching,
    survey,
    survey_of,
)
from tests.support.infermedica_server import Fault, InfermedicaServer
from tests.support.kafka.brokers import RunningBroker
from tests.support.messages import header_of
from tests.support.workload import produce


@pytest.mark.long
def test_temporary_failures_are_retried(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """401 with a new token too, 409, 429 with Retry-After, 503, a hung request and an answer that is no JSON."""
    api.complete("s-1")
    faults = (
        *(Fault(401), Fault(401)),  # the second with a new token
        Fault(409),
        Fault(429, {"Retry-After": "1"}),
        Fault(503),
        Fault(hang=True),
        Fault(200, body=b"<html>"),
        Fault(200, body=b"[]"),
    )
    api.fail("s-1", "summary", *faults)
    api.fail("s-1", "evidence_assessment", Fault(409))
    produce(own_broker.settings(), [survey("s-1")])
    started = time.monotonic()
    with enriching(own_broker, api, vendors, FHIRLINE_INFERMEDICA_TIMEOUT="5") as process:
        messages = reading(ENRICHED).count(1, process)
    assert [survey_of(message) for message in messages] == ["s-1"]
    assert time.monotonic() - started >= 1, "Retry-After is waited for"
    assert api.asked("/api/v2/surveys/s-1/summary") == len(faults) + 1
    assert api.asked("/api/v2/surveys/s-1/evidence_assessment") == 2, "a fetched result is not fetched again"


@pytest.mark.parametrize(
    ("fault", "problem", "asked"),
    [
        (None, "http-404", 1),
        pytest.param(Fault(403), "http-403", 1, marks=pytest.mark.long),
        pytest.param(Fault(302, {"Location": "http://127.0.0.1:9/"}), "http-302", 1, marks=pytest.mark.long),
        pytest.param(Fault(429, {"Retry-After": "86400"}), "http-429", 1, marks=pytest.mark.long),
        (Fault(200, body=b'{"a":' * 300 + b"1" + b"}" * 300), "too-deep", 1),
    ],
)
def test_permanent_failures_are_dead_letters(
    own_broker: RunningBroker,
    api: InfermedicaServer,
    vendors: Path,
    reading: Callable[..., Reading],
    fault: Fault | None,
    problem: str,
    asked: int,
) -> None:
    if fault:
        api.complete("s-1")
        api.fail("s-1", "evidence_assessment", fault)
    result = "evidence_assessment" if fault else "summary"
    [raw] = produce(own_broker.settings(), [survey("s-1")])
    with enriching(own_broker, api, vendors) as process:
        [letter] = reading(LETTERS, ENRICHED).count(1, process)
    assert letter.topic() == LETTERS
    assert (letter.key(), letter.value()) == (raw.key, raw.value), "redriving it is producing it again"
    names = ("error-code", "error-path", "raw", "tenant", "received-at", "attempt", "vendor")
    assert [header_of(letter, name) for name in names] == [
        "enrichment-failed",
        f"/{result}",
        str(raw.position),
        TENANT,
        RECEIVED_AT,
        "1",
        "infermedica",
    ]
    [told] = orjson.loads(header_of(letter, "errors") or "")
    assert told["problem"] == problem
    assert api.asked(f"/api/v2/surveys/s-1/{result}") == asked


@pytest.mark.long
def test_a_call_that_stays_refused_is_retried_until_its_time_is_up(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    api.complete("s-1")
    api.fail("s-1", "summary", *[Fault(401)] * 1_000)
    produce(own_broker.settings(), [survey("s-1")])
    with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_GIVE_UP_AFTER="2") as process:
        [letter] = reading(LETTERS, ENRICHED).count(1, process)
    assert (letter.topic(), header_of(letter, "error-code")) == (LETTERS, "enrichment-failed")
    [told] = orjson.loads(header_of(letter, "errors") or "")
    assert told["problem"] == "http-401"
    assert api.asked("/api/v2/surveys/s-1/summary") >= 6, "two requests in each of at least three attempts"
    assert process.exit_code == 0


@pytest.mark.long
def test_a_server_that_stays_down_ends_in_a_dead_letter(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """5xx until the time is up: a dead letter and a committed offset. Another survey is enriched meanwhile. After a
    redrive the survey is fetched."""
    settings = own_broker.settings()
    api.complete("down", "up")
    api.fail("down", "summary", *[Fault(500)] * 1_000)
    written = produce(settings, [survey("down"), survey("up")])
    [raw] = [record for record in written if b"down" in (record.value or b"")]
    with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_GIVE_UP_AFTER="5") as process:
        letters, enriched = reading(LETTERS), reading(ENRICHED)
        [letter] = letters.count(1, process)
        assert header_of(letter, "error-code") == "enrichment-failed"
        assert letter.value() == raw.value
        enriched.count(1, process)
        asked = api.asked("/api/v2/surveys/down/summary")
        assert 3 <= asked <= 60, "between 0.05 s and 0.3 s apart"
        api.faults.clear()
        produce(settings, [survey("down")])
        assert sorted(map(survey_of, enriched.count(2, process))) == ["down", "up"]
    assert process.exit_code == 0
    assert sum(committed(settings, raw_topic("infermedica")).values()) == 3
