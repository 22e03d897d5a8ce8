"""Delivery reports are taken in one place, which knows what a fatal error does (faust.md §2.6)."""

from tests.support.paths import files_with

PLACE = "streams/kafka/delivery_report.py"


def test_no_other_code_polls_or_flushes_a_producer() -> None:
    """A redrive that polled by itself would end with a traceback, and a gateway would answer nobody any more."""
    assert files_with(r"(?i)producers?(?:\[\d+\])?\.poll\(") == [PLACE]
    assert files_with(r"(?i)producers?(?:\[\d+\])?\.flush\(") == []
    assert len(files_with(r"\btake(?:_all)?_reports\(")) > 8
