"""Shared by all tests. ``--approve`` writes the golden files anew from what the mappings make now."""

import signal

import pytest
from hypothesis import settings

from tests.support.kafka.brokers import apache_kafka, broker, embedded, own_broker
from tests.support.kafka.users import cluster

__all__ = ["apache_kafka", "broker", "cluster", "embedded", "own_broker"]

# A shell starts what runs in the background with Ctrl-C ignored, and what a test starts would inherit that: no Ctrl-C
# that a test sends would reach it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--approve", action="store_true", help="write tests/golden/**/*.out.json anew; then read the diff")


@pytest.fixture(scope="session")
def approve(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--approve"))


settings.register_profile("fhirline", deadline=None, max_examples=300, derandomize=True, database=None)
settings.load_profile("fhirline")
