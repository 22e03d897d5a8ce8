"""Tables of views that are gone: they are kept without new rows, and lose those of erased patients."""

from fhirline.streams.tables.batch import Batch
from fhirline.streams.tables.built_in import RECORD
from fhirline.streams.tables.schema import Known
from fhirline.streams.tables.store import Store, quoted
from fhirline.streams.tables.views.view import ANY_RESOURCE


def removed_from(batch: Batch, known: Known) -> list[str]:
    """Return the ids of a batch's tombstones whose rows the table may have."""
    if known.resource == ANY_RESOURCE:
        return [id for ids in batch.removed.values() for id in ids]
    return batch.removed.get(known.resource, [])


def delete_unknown(store: Store, name: str, known: Known) -> None:
    """Delete the rows of a table whose resource is in no topic any more, after tombstones were missed."""
    there = f"select resource_id from {store.of(RECORD.name)} where resource_type = ?"
    store.run(f"delete from {store.of(name)} where {quoted(known.id_column)} not in ({there})", [known.resource])
