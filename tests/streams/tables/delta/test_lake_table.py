"""The values that a Delta table takes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fhirline.streams.tables.delta.lake_table import created
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views.view import Column

pytestmark = pytest.mark.long

COLUMNS = (Column("id", "id"), Column("at", "instant"), Column("times", "instant", collection=True))
TEXT, MOMENT = "2026-03-01T10:00:00.25Z", datetime(2026, 3, 1, 10, 0, 0, 250_000, UTC)


def test_instants_are_instants_in_collections_too(tmp_path: Path) -> None:
    lake = created(tmp_path / "slot", Table("slot", "Slot", COLUMNS, ("id",), "Slots", "1"), ())
    lake.commit([], [("a", TEXT, [TEXT, TEXT])], {}, {})
    lake.commit(["a"], [("b", None, None), ("c", TEXT, [])], {}, {})
    rows = sorted(tuple(row.values()) for row in lake.delta.to_pyarrow_table().to_pylist())
    assert rows == [("b", None, None), ("c", MOMENT, [])]
    before = lake.delta
    before.load_as_version(1)
    assert [tuple(row.values()) for row in before.to_pyarrow_table().to_pylist()] == [("a", MOMENT, [MOMENT, MOMENT])]
