"""Events of a tenant of its own for each test; and a broker of its own with settings of a changed mapping."""

import pytest

from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.replaying import own

__all__ = ["own"]


@pytest.fixture
def load(embedded: RunningBroker) -> Load:
    return load_on(embedded)
