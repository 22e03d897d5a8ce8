"""Changes of tables from records: the newest record of a key counts, a tombstone has no rows, a wrong view is named."""

from typing import Any

import orjson
import pytest

from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.tables.batch import UnfitRows, collect
from fhirline.streams.tables.catalog import Catalog, Source
from fhirline.streams.tables.table import Table
from fhirline.streams.tables.views import Column

GENDER = Table(
    "gender",
    "Patient",
    (Column("resource_id", "id"), Column("ordinal", "integer"), Column("gender", "code")),
    ("resource_id", "ordinal"),
    "",
    "",
)


def catalog(rows: Any) -> Catalog:
    return Catalog([Source(GENDER, rows)], "https://example.org/flags")


def one_row(resource: Any) -> list[tuple[Any, ...]]:
    return [(resource["id"], 1, resource.get("gender"))]


def record(offset: int, id: str, **elements: Any) -> ConsumerRecord:
    value = orjson.dumps({"resourceType": "Patient", "id": id, **elements})
    return ConsumerRecord("fhir.r4.Patient", 0, offset, 1_700_000_000_000, f"Patient/{id}".encode(), value, [])


def tombstone(offset: int, id: str) -> ConsumerRecord:
    return ConsumerRecord("fhir.r4.Patient", 0, offset, 0, f"Patient/{id}".encode(), None, [])


def test_the_newest_record_of_each_key_counts() -> None:
    records = [record(0, "a", gender="male"), record(1, "b", gender="female"), record(2, "a", gender="other")]
    batch = collect([*records, tombstone(3, "b"), tombstone(4, "c")], catalog(one_row))
    change = batch.changes["gender"]
    assert (sorted(change.ids), change.rows) == (["a", "b", "c"], [("a", 1, "other")])
    assert batch.removed == {"Patient": ["b", "c"]}
    assert [row[:6] for row in batch.changes["record"].rows] == [("Patient/a", "Patient", "a", "fhir.r4.Patient", 0, 2)]
    assert batch.records == 5


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"resourceType":"Patient","id":"other"}', b'{"id":"a"}'])
def test_a_value_that_is_no_resource_of_its_key_has_no_rows(value: bytes) -> None:
    """And replaces those of an earlier value, as the newest one of its key."""
    wrong = ConsumerRecord("fhir.r4.Patient", 0, 1, 0, b"Patient/a", value, [])
    batch = collect([record(0, "a", gender="male"), wrong], catalog(one_row))
    assert (batch.changes["gender"].ids, batch.changes["gender"].rows) == (["a"], [])
    assert batch.unreadable == ["fhir.r4.Patient/0/1"]


@pytest.mark.parametrize(
    "rows", [[("a", 1, "x"), ("a", 1, "y")], [("a", None, "x")], [("a", "1", "x")], [("a", True, "x")]]
)
def test_rows_that_do_not_fit_name_the_view_and_the_record_without_a_value(rows: list[Any]) -> None:
    with pytest.raises(UnfitRows, match=r"^view gender: .*fhir\.r4\.Patient/0/7") as found:
        collect([record(7, "a", gender="male")], catalog(lambda _: rows))
    assert "male" not in str(found.value)


def test_values_get_the_types_that_databases_load() -> None:
    """PostgreSQL has no NUL in a text."""
    batch = collect([record(0, "a", gender="ma\0le")], catalog(one_row))
    assert batch.changes["gender"].rows == [("a", 1, "male")]
