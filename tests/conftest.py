"""Shared by all tests. ``--approve`` writes the golden files anew from what the mappings make now."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--approve", action="store_true", help="write tests/golden/**/*.out.json anew; then read the diff")


@pytest.fixture(scope="session")
def approve(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--approve"))
