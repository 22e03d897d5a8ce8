"""Leave this folder out of `make test`, where each of its processes would import deltalake for nothing."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect nothing here where only tests run that are not long, as all of these are."""
    return True if config.option.markexpr == "not long" else None
