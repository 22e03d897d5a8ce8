"""Many surveys at once: none waits for another, and none is lost when a process stops, dies or joins."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.topics.declared import raw_topic
from tests.support.enriching import ENRICHED, Reading, committed, enriching, survey, survey_of
from tests.support.infermedica_server import InfermedicaServer
from tests.support.kafka.brokers import RunningBroker, also_on_apache, create_topics
from tests.support.messages import header_of
from tests.support.waiting import LIMIT
from tests.support.workload import produce


@also_on_apache
@pytest.mark.long
def test_a_slow_survey_does_not_delay_others(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """In one partition, surveys after an incomplete one are enriched, and the offset waits for it."""
    settings = own_broker.settings()
    others = [f"s-{item}" for item in range(60)]
    api.surveys["slow"] = "pending"
    api.complete(*others)
    records = [survey(other) for other in ("slow", *others)]
    one_partition = [replace(record, key=b"one", timestamp_ms=1) for record in records]
    produce(settings, one_partition)
    with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_REQUESTS="2") as process:
        enriched = reading(ENRICHED)
        assert {survey_of(item) for item in enriched.count(60, process)} == set(others)
        seen = api.asked("/api/v2/surveys/slow/summary")
        api.wait_until_asked("/api/v2/surveys/slow/summary", seen + 3)
        assert committed(settings, raw_topic("infermedica")) == {}, "the first of the partition is not finished"
        api.complete("slow")
        assert survey_of(enriched.count(61, process)[-1]) == "slow"
    assert process.exit_code == 0
    assert list(committed(settings, raw_topic("infermedica")).values()) == [61]


@pytest.mark.long
def test_surveys_in_progress_are_limited_by_the_setting(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    waiting = [f"w-{item}" for item in range(5)]
    for survey_id in waiting:
        api.surveys[survey_id] = "new"
    produce(own_broker.settings(), [survey(item) for item in waiting])
    with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_SURVEYS="2") as process:
        process.wait_for("partitions assigned")
        end = time.monotonic() + LIMIT
        while len(asked := {path for _, path, _ in list(api.requests) if "/surveys/" in path}) < 2:
            assert time.monotonic() < end, process.report("is stuck")
            time.sleep(0.05)
        for path in sorted(asked):
            api.wait_until_asked(path, api.asked(path) + 3)
        assert {path for _, path, _ in list(api.requests) if "/surveys/" in path} == asked
        api.complete(*waiting)
        assert {survey_of(item) for item in reading(ENRICHED).count(5, process)} == set(waiting)


@pytest.mark.long
@also_on_apache
def test_nothing_is_lost_when_killed_between_fetch_and_commit(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """Three SIGKILLs: every survey is enriched, and each repeat is the same event."""
    surveys = [f"s-{item}" for item in range(150)]
    api.complete(*surveys)
    api.surveys["late"] = "pending"
    produce(own_broker.settings(), [survey(item) for item in (*surveys, "late")])
    enriched = reading(ENRICHED)
    for kill in range(3):
        with enriching(own_broker, api, vendors, FHIRLINE_ENRICH_REQUESTS="4") as process:
            asked = len(api.requests)
            end = time.monotonic() + LIMIT
            while len(api.requests) < asked + 60 + 40 * kill:
                assert time.monotonic() < end, process.report("is stuck")
                time.sleep(0.01)
            process.kill()
    with enriching(own_broker, api, vendors) as process:
        api.wait_until_asked("/api/v2/surveys/late/summary", api.asked("/api/v2/surveys/late/summary") + 2)
        api.complete("late")
        wanted = {*surveys, "late"}
        messages = enriched.until(lambda messages: {survey_of(item) for item in messages} >= wanted, process)
    keys: dict[str, set[str | None]] = {}
    for message in messages:
        keys.setdefault(survey_of(message), set()).add(header_of(message, "event-key"))
    assert keys.keys() == wanted
    assert all(len(key) == 1 for key in keys.values()), "a repeat is the same event"
    assert process.exit_code == 0


@pytest.mark.long
def test_sigterm_abandons_retries_without_committing(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    settings = own_broker.settings()
    api.surveys["waits"] = "pending"
    produce(settings, [survey("waits")])
    patient = {"FHIRLINE_ENRICH_RETRY_FIRST": "100", "FHIRLINE_ENRICH_RETRY_LONGEST": "100"}
    with enriching(own_broker, api, vendors, **patient) as process:
        api.wait_until_asked("/api/v2/surveys/waits/summary")
        process.stop()
        assert process.exit_code == 0, process.report("did not end in order")
    assert committed(settings, raw_topic("infermedica")) == {}
    api.complete("waits")
    with enriching(own_broker, api, vendors) as process:
        assert [survey_of(item) for item in reading(ENRICHED).count(1, process)] == ["waits"]


@pytest.mark.long
def test_sigterm_ends_it_while_kafka_is_down(api: InfermedicaServer, vendors: Path) -> None:
    """Nothing can be committed, and it does not wait."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        running = RunningBroker("embedded", broker.bootstrap)
        api.complete("s-1")
        produce(running.settings(), [survey("s-1")])
        with enriching(running, api, vendors, FHIRLINE_SESSION_TIMEOUT="20") as process:
            process.wait_for("survey enriched")
            broker.stop()
            process.wait_for("kafka away")
            process.stop()
            assert process.exit_code == 0, process.report("had to be killed")


@also_on_apache
@pytest.mark.long
def test_two_processes_share_the_partitions(
    own_broker: RunningBroker, api: InfermedicaServer, vendors: Path, reading: Callable[..., Reading]
) -> None:
    """A second process joins while surveys are in progress. Nothing is lost, and each has partitions."""
    surveys = [f"s-{item}" for item in range(40)]
    for survey_id in surveys:
        api.surveys[survey_id] = "pending"
    produce(own_broker.settings(), [survey(item) for item in surveys])
    with enriching(own_broker, api, vendors) as first:
        api.wait_until_asked("/api/v2/surveys/s-0/summary")
        with enriching(own_broker, api, vendors) as second:
            assert second.wait_for("partitions assigned")["partitions"] in ([0, 1, 2], [3, 4, 5])
            api.complete(*surveys)
            enriched = reading(ENRICHED)
            enriched.until(lambda messages: {survey_of(message) for message in messages} >= set(surveys), first)
            assert first.running
            assert second.running
        assert second.exit_code == 0
