"""A lakehouse for tests. `make test` leaves this folder out: its processes would import deltalake for nothing."""

from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from tests.support.kafka.brokers import RunningBroker


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect nothing here where only tests run that are not long, as all of these are."""
    return True if config.option.markexpr == "not long" else None


@pytest.fixture
def lake(own_broker: RunningBroker, tmp_path: Path) -> Settings:
    return own_broker.settings(tables_url=f"delta:{tmp_path}/lake", tables_within=0.2)
