"""A partition's records on both brokers."""

import uuid

import pytest

from tests.streams.step2_consume.faust.logs import ELSEWHERE, TOPIC, Log, commit, write
from tests.support.kafka.brokers import RunningBroker


@pytest.fixture(params=["embedded", pytest.param("apache_kafka", marks=pytest.mark.long)])
def log(request: pytest.FixtureRequest) -> Log:
    running: RunningBroker = request.getfixturevalue(request.param)
    settings = running.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    written = Log(settings, write(settings, TOPIC, 10), write(settings, ELSEWHERE.topic, 4))
    commit(settings, written.records[3])
    commit(settings, written.others[0])
    return written
