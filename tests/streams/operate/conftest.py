"""Events of a tenant of its own for each test; brokers of its own for a changed mapping, and for encryption."""

import pytest

from tests.support.encrypted_deployment import deployment
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.replaying import own

__all__ = ["deployment", "own"]


@pytest.fixture
def load(embedded: RunningBroker) -> Load:
    return load_on(embedded)
