"""Rows of erased patients to which no tombstone leads: OperationOutcomes, and tables of views that are gone.

The topic of OperationOutcomes has no tombstones: it keeps them for 30 days, and they hold paths, never values. In
tables they would stay, with the key of the event. So they go with the event's Provenance, in the same transaction.
"""

from collections.abc import Iterable, Sequence

from fhirline.streams.tables.built_in import RECORD
from fhirline.streams.tables.catalog import OUTCOMES, Catalog
from fhirline.streams.tables.schema import Known
from fhirline.streams.tables.store import Store, quoted


def outcomes_of_erased(store: Store, provenances: Iterable[str]) -> list[str]:
    """Return the ids of the OperationOutcomes of the events that have these Provenances."""
    keys = [f"Provenance/{id}" for id in provenances]
    if not keys:
        return []
    record = store.of(RECORD.name)
    found = store.rows(
        f"select o.resource_id from {record} o join {record} p "
        "on p.event_key = o.event_key and p.vendor = o.vendor and p.tenant = o.tenant "
        f"where o.resource_type = '{OUTCOMES}' "
        f"and p.record_key in (select unnest(cast(? as {store.types['text']}[])))",
        [keys],
    )
    return [id for (id,) in found]


def delete_outcomes(store: Store, catalog: Catalog, ids: Sequence[str]) -> None:
    for source in catalog.of_type(OUTCOMES):
        store.delete(source.table, ids)
    for table in catalog.built_in:
        store.delete(table, [f"{OUTCOMES}/{id}" for id in ids])


def delete_unknown(store: Store, name: str, known: Known) -> None:
    """Delete the rows of a gone view's table whose resource is in no topic any more, after tombstones were missed."""
    there = f"select resource_id from {store.of(RECORD.name)} where resource_type = ?"
    store.run(f"delete from {store.of(name)} where {quoted(known.id_column)} not in ({there})", [known.resource])
