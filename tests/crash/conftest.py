"""Shared by the crash tests: Apache Kafka for one test, whose topics are compared whole, and figures that are shown."""

from collections.abc import Callable, Iterator

import pytest

from config.settings import Settings
from tests.crash.sizes import SIZES
from tests.kafka.brokers import apache, create_topics, settings_for

SESSION = 6
MINUTES = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Conditions are awaited with generous limits, of their own; the runner's is for what hangs beyond them."""
    limit = (600 if SIZES.soak else 60 if SIZES.long else 12) * MINUTES
    for item in items:
        if "/crash/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(limit))
            item.add_marker(pytest.mark.long)


@pytest.fixture
def kafka() -> Iterator[Settings]:
    """Settings that lead to one broker of Apache Kafka with the declared topics."""
    with apache() as cluster:
        create_topics(cluster.bootstrap)
        yield settings_for(cluster.bootstrap, session_timeout=SESSION)


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Print figures whether or not the test fails."""

    def printed(*lines: object) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name} (seed {SIZES.seed}):", *lines, sep="\n  ", flush=True)

    return printed
