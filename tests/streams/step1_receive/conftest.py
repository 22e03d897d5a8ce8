"""The broker of a module's gateway or ingests: embedded, with the raw topics only."""

from collections.abc import Iterator

import pytest

from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from tests.support.receiving import create_raw_topics


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        create_raw_topics(running)
        yield running
