"""Fixtures of the crash tests: Apache Kafka for one test, and a way to print figures."""

import os
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from fhirline.config.settings import Settings
from tests.crash.sizes import SIZES
from tests.support.encryption import ENCRYPTION
from tests.support.kafka.brokers import apache, create_topics, settings_for

SESSION = 6
MINUTES = 60

FIGURES = "figures"
"""A report's property that carries figures out of a process of pytest-xdist, whose own output is not shown."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the crash tests a long timeout. Their conditions have limits of their own; this one is for what hangs."""
    limit = (600 if SIZES.soak else 60 + SIZES.minutes if SIZES.minutes else 60 if SIZES.long else 12) * MINUTES
    for item in items:
        if "/crash/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(limit))
            item.add_marker(pytest.mark.long)


@pytest.fixture
def kafka() -> Iterator[Settings]:
    """Return settings for one broker of Apache Kafka with the declared topics."""
    with apache() as cluster:
        create_topics(cluster.bootstrap)
        yield settings_for(cluster.bootstrap, session_timeout=SESSION)


@pytest.fixture
def encrypted(kafka: Settings) -> Settings:
    """Return the same with encryption on: events are sealed, and what is kept of them."""
    return kafka.model_copy(update={"encryption": SecretStr(ENCRYPTION)})


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[object], None]:
    """Print figures whether or not the test fails: at once, or in the summary where several processes run tests."""

    def printed(*lines: object) -> None:
        text = "\n  ".join(map(str, (f"{request.node.name} (seed {SIZES.seed}):", *lines)))
        if "PYTEST_XDIST_WORKER" in os.environ:
            request.node.user_properties.append((FIGURES, text))
        else:
            with capsys.disabled():
                print(f"\n{text}", flush=True)

    return printed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, text in report.user_properties:
                    if name == FIGURES:
                        terminalreporter.write_line(str(text))
