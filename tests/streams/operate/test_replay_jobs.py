"""The number of processes that a replay starts."""

import os
from pathlib import Path

import pytest

from fhirline.streams.cli.replay import command


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        (None, 8),
        ("max 100000", 8),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("990000 10000", 8),
    ],
)
def test_a_containers_limit_bounds_the_processes(
    limit: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process per core of a large machine would need more than the container's memory."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    if limit:
        (tmp_path / "cpu.max").write_text(f"{limit}\n", "ascii")
    assert command._cores(tmp_path / "cpu.max") == cores
