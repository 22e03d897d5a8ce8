"""Waiting for a condition, with a limit."""

import time
from collections.abc import Callable

LIMIT = 240.0
"""Seconds after which a condition counts as never met. Only a hang takes so long: a process that ended is noticed at
once, and a machine with twenty times the load it can carry still starts a worker in less. A test may take longer as a
whole (``timeout`` in pyproject.toml)."""


def wait_until(reached: Callable[[], object], problem: str | Callable[[], str], patience: float = LIMIT) -> None:
    """Wait until ``reached`` is true of what it returns. ``problem``: what the error reports otherwise."""
    end = time.monotonic() + patience
    while not reached():
        assert time.monotonic() < end, problem() if callable(problem) else problem
        time.sleep(0.05)
