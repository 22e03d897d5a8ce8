"""The header Retry-After."""

from fhirline.streams.http.retry_after import seconds_until


def test_retry_after_is_seconds_or_a_date() -> None:
    assert seconds_until("7") == 7
    assert seconds_until(None) is None
    assert seconds_until("soon") is None
    assert seconds_until("Mon, 01 Jan 2024 00:00:00 GMT") == 0, "it is over"
    assert (seconds_until("Mon, 01 Jan 2224 00:00:00 GMT") or 0) > 1e9
    assert seconds_until("9" * 5_000) == float("inf")
