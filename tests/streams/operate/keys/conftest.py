"""A broker of its own for each test, and settings with encryption."""

from collections.abc import Iterator

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support.encryption import ENCRYPTION
from tests.support.kafka.brokers import RunningBroker, create_topics

PARTITIONS = 2
ERASURE_KEY = "0123456789abcdef" * 2


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A broker for one test. The settings have encryption."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap, partitions=PARTITIONS)
        running = RunningBroker("embedded", broker.bootstrap)
        yield running.settings(
            session_timeout=6, partitions=PARTITIONS, encryption=ENCRYPTION, validation="off", erasure_key=ERASURE_KEY
        )
