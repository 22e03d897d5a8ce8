"""Tables that others have altered or dropped: no value stands in another column, and what is lost is made again."""

import pytest

from fhirline.config.settings import Settings
from tests.support.kept_tables import in_database
from tests.support.tables import keep, published, write

pytestmark = pytest.mark.long


NAMES = "select resource_id, family, given, gender, birth_date from fhir.patient order by 1"


def test_columns_in_another_order_have_their_own_values(kept: Settings) -> None:
    """Rows of a table whose column was dropped and added again, which is then the last one."""
    records = published(kept)
    write(kept, records)
    keep(kept)
    before = in_database(kept, NAMES)
    again = ("alter table fhir.patient drop column family", "alter table fhir.patient add column family text")
    assert {row[1] for row in in_database(kept, *again, NAMES)} == {None}
    write(kept, [record for record in records if record.topic == "fhir.r4.Patient"])
    keep(kept)
    assert in_database(kept, NAMES) == before
