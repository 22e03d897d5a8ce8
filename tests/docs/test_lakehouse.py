"""The query of ``event`` in docs/lakehouse.md is the one of the databases' view."""

from textwrap import dedent

from fhirline.streams.tables.built_in import event_query
from tests.support.paths import ROOT


def test_the_query_of_event_is_that_of_the_view() -> None:
    page = (ROOT / "docs" / "lakehouse.md").read_text("utf-8")
    assert f"```sql\n{dedent(event_query('record', 'event_flag')).strip()}\n```" in page
