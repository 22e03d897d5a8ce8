"""Fixtures: real brokers, one of each kind a test process, with the declared topics on them.

Tests share them: name a consumer group, a tenant or a topic of your own, and read from where you began. A test that
needs a broker for itself makes one: `EmbeddedBroker` takes milliseconds, `apache` five seconds, eleven for three.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.clients import kafka_python
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import declared
from tests.support.kafka.apache import ApacheKafka
from tests.support.kafka.jars import Unavailable
from tests.support.waiting import LIMIT


@dataclass(frozen=True)
class RunningBroker:
    """A broker that a test may use: which kind it is, where it listens, and settings that lead to it."""

    kind: str
    bootstrap: str

    def settings(self, **more: Any) -> Settings:
        return settings_for(self.bootstrap, **more)


def settings_for(bootstrap: str, **more: Any) -> Settings:
    """Settings that lead to a broker; no ``.env`` file is read."""
    return Settings(bootstrap=bootstrap, _env_file=None, **more)


def create_topics(bootstrap: str, **more: Any) -> None:
    """Put the declared topics on a cluster, as ``fhirline topics apply`` does."""
    settings = settings_for(bootstrap, **more)
    with Cluster(kafka_python(settings), timeout=LIMIT) as cluster:
        applied = cluster.apply(cluster.plan(declared(settings)))
    assert applied.complete, applied


def unavailable(reason: object) -> NoReturn:
    """Skip where Apache Kafka cannot be had; fail in CI, where that would go unseen."""
    if os.environ.get("CI"):
        pytest.fail(f"Apache Kafka is needed in CI: {reason}", pytrace=False)
    pytest.skip(f"no Apache Kafka here: {reason}")


@contextmanager
def apache(brokers: int = 1, **properties: str | int) -> Iterator[ApacheKafka]:
    """A cluster of Apache Kafka for one test, or a skip; ``_`` in a property's name stands for a dot."""
    with ExitStack() as stack:
        try:
            named = {name.replace("_", "."): value for name, value in properties.items()}
            kafka = stack.enter_context(ApacheKafka(brokers, properties=named))
        except Unavailable as error:
            unavailable(error)
        yield kafka


@pytest.fixture(scope="session")
def embedded() -> Iterator[RunningBroker]:
    """The embedded broker of the demo."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap)


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[RunningBroker]:
    """One broker of Apache Kafka."""
    with apache() as kafka:
        create_topics(kafka.bootstrap)
        yield RunningBroker("apache", kafka.bootstrap)


also_on_apache = pytest.mark.parametrize(
    "own_broker", ["embedded", pytest.param("apache", marks=pytest.mark.long)], indirect=True
)
"""A test with `own_broker` runs on both kinds: on Apache Kafka, which takes seconds to start, in `make test-long`."""


@pytest.fixture
def own_broker(request: pytest.FixtureRequest) -> Iterator[RunningBroker]:
    """A broker for one test, whose topics are compared or counted whole. Embedded, unless the test is parametrized."""
    if getattr(request, "param", "embedded") == "embedded":
        with EmbeddedBroker() as broker:
            create_topics(broker.bootstrap)
            yield RunningBroker("embedded", broker.bootstrap)
    else:
        with apache() as kafka:
            create_topics(kafka.bootstrap)
            yield RunningBroker("apache", kafka.bootstrap)


@pytest.fixture(params=["embedded", pytest.param("apache_kafka", marks=pytest.mark.long)])
def broker(request: pytest.FixtureRequest) -> RunningBroker:
    """Each kind of broker in turn; Apache Kafka in ``make test-long``."""
    found: RunningBroker = request.getfixturevalue(request.param)
    return found
