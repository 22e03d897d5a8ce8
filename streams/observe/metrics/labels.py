"""Label values and buckets."""

from collections.abc import Iterable

OTHER = "other"
"""The label value of everything beyond the bound."""

UNKNOWN = "unknown"

LONGEST = 200
"""Characters of a label value. A longer value becomes `OTHER`."""

PATHS = 200
"""Paths of a vendor's schema drift with a series of their own, per process. The rest are `OTHER`."""

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds: 5 ms to 10 s for normal operation, and three more buckets for delays."""

BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000)
"""Events; settings allow 10,000."""


class Bounded:
    """Passes the ``known`` values and the first ``limit`` others. The rest become `OTHER`."""

    def __init__(self, limit: int, known: Iterable[str] = ()) -> None:
        self._passing = set(known)
        self._room = limit

    def __call__(self, value: str) -> str:
        if value in self._passing:
            return value
        if not self._room or len(value) > LONGEST:
            return OTHER
        self._room -= 1
        self._passing.add(value)
        return value
