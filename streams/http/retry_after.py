"""The header ``Retry-After``."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_until(retry_after: str | None) -> float | None:
    """Parse ``Retry-After``: seconds, or an HTTP date; None where it is missing or neither."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
