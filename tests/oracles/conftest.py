"""The oracles installed, or a skip that says what is missing."""

import pytest

from tests.oracles.packages import Unavailable, node_modules, unavailable


@pytest.fixture(scope="session")
def oracles() -> None:
    """Before any test that asks an oracle."""
    try:
        node_modules()
    except Unavailable as error:
        unavailable(error)
