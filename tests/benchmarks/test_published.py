"""The published figures are those that were measured."""

import json

from benchmarks.results import markdown
from tests.support.paths import ROOT

PUBLISHED = ROOT / "benchmarks"


def test_what_is_published_is_made_of_its_results_and_notes() -> None:
    """Nobody writes a figure into it, and notes that are changed reach it."""
    results = json.loads((PUBLISHED / "results.json").read_text("utf-8"))
    assert (PUBLISHED / "RESULTS.md").read_text("utf-8") == markdown(results), (
        "benchmarks/RESULTS.md: write it again by `benchmarks.results.markdown`"
    )
