"""Rate limits: a token bucket per tenant, and one for all tenants of a vendor, where vendors.yaml sets them.

The buckets are in memory, so each gateway process applies a limit by itself. Taking a token costs less than a
microsecond. The moving window of the ``limits`` library costs tens of them per request, and a timer thread.
"""

import time
from collections.abc import Callable
from math import ceil

from fhirline.config.vendors import RateLimit, Vendors


class TokenBucket:
    """Allows ``per_second`` requests per second, and ``burst`` at once after a pause. Not thread-safe."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._rate = limit.per_second
        self._burst = float(limit.burst or ceil(limit.per_second))
        self._tokens = self._burst
        self._at = now

    def wait(self, now: float) -> float:
        """Return the seconds until another request is allowed; 0.0 for now."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / self._rate

    def take(self) -> None:
        self._tokens -= 1.0


class RateLimits:
    """The buckets of all vendors and tenants with a limit."""

    def __init__(self, vendors: Vendors, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        now = clock()
        self._buckets: dict[tuple[str, str], tuple[TokenBucket, ...]] = {}
        for name in vendors.names:
            vendor = vendors[name]
            shared = (TokenBucket(vendor.rate_limit, now),) if vendor.rate_limit else ()
            for tenant in vendor.tenants:
                limit = vendor.settings(tenant).rate_limit
                own = (TokenBucket(limit, now),) if limit else ()
                if own or shared:
                    self._buckets[name, tenant] = own + shared

    def wait(self, vendor: str, tenant: str) -> int:
        """Count a request and return 0, or return the whole seconds after which it may be sent again.

        A refused request takes nothing from either bucket, so that a busy tenant does not use up the others' share.
        """
        buckets = self._buckets.get((vendor, tenant))
        if buckets is None:
            return 0
        now = self._clock()
        seconds = max(bucket.wait(now) for bucket in buckets)
        if seconds > 0.0:
            return ceil(seconds)
        for bucket in buckets:
            bucket.take()
        return 0
