"""Label values and buckets."""

from collections.abc import Iterable

OTHER = "other"
"""Stands for every value beyond the bound."""

UNKNOWN = "unknown"

LONGEST = 200
"""Characters of a label's value; a longer one is `OTHER`."""

PATHS = 200
"""Paths of a vendor's drift that are told apart, in a process; the rest are `OTHER`."""

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds: 5 ms to 10 s for what is as it should be, and three more for how late what is late is."""

BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000)
"""Events; settings allow 10,000."""


class Bounded:
    """Lets the first ``limit`` different values pass, and those of ``known`` besides; the rest become `OTHER`."""

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
