"""The size of each scenario: small in `make test-long`. `make crash` and `make soak` set the environment."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    long: bool = os.environ.get("CRASH_FORM") == "long"
    seed: int = int(os.environ.get("CRASH_SEED") or 1)
    soak: int = int(os.environ.get("CRASH_SOAK") or 0)
    """Events of the soak; 0: no soak."""
    minutes: float = float(os.environ.get("CRASH_MINUTES") or 0)
    """Minutes of kills and pauses of everything; 0: none."""

    @property
    def kills(self) -> int:
        """Kills of a worker. The numbers of other disturbances are shares of it."""
        return int(os.environ.get("CRASH_KILLS") or (20 if self.long else 2))

    @property
    def events(self) -> int:
        """The least number of events. A steady input goes on until the last disturbance is over."""
        return int(os.environ.get("CRASH_EVENTS") or (20_000 if self.long else 400))

    @property
    def rate(self) -> float:
        """Events a second. A kill costs the group some 8 s, in which its backlog grows."""
        return min(400.0, max(40.0, self.events / (self.kills * 8)))

    @property
    def outage(self) -> float:
        """Seconds without any broker."""
        return 60.0 if self.long else 7.0

    @property
    def repeats(self) -> int:
        """Number of times that a disturbance without a count of its own is repeated."""
        return max(1, self.kills // 2) if self.long else 1


SIZES = Sizes()
