"""Infermedica's API, a tenant whose events are enriched, and readers of what is written."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.enriching import TENANT, Reading
from tests.support.infermedica_server import InfermedicaServer
from tests.support.kafka.brokers import RunningBroker
from tests.support.paths import CONFIG


@pytest.fixture
def api() -> Iterator[InfermedicaServer]:
    with InfermedicaServer() as server:
        yield server


@pytest.fixture
def vendors(tmp_path: Path) -> Path:
    """The packaged vendors, and a tenant whose events are enriched."""
    content = yaml.safe_load((CONFIG / "vendors.yaml").read_text("utf-8"))
    content["vendors"]["infermedica"]["tenants"][TENANT] = {"enrichment": True}
    path = tmp_path / "vendors.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


@pytest.fixture
def reading(own_broker: RunningBroker) -> Iterator[Callable[..., Reading]]:
    made: list[Reading] = []

    def read(*topics: str) -> Reading:
        made.append(Reading(own_broker.settings(), *topics))
        return made[-1]

    yield read
    for reading in made:
        reading.close()
