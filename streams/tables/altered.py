"""Tables that others have dropped, altered or emptied, and the errors that name them with the remedy."""

from collections.abc import Iterable

from fhirline.config.errors import ConfigurationError
from fhirline.streams.tables.catalog import Catalog
from fhirline.streams.tables.positions import POSITIONS, read_positions
from fhirline.streams.tables.schema import STATE, TABLES, exists, is_whole, known_tables
from fhirline.streams.tables.store import Store, quoted

_INTERNAL = (TABLES, POSITIONS, STATE)


def require_all_or_none(store: Store) -> None:
    """Raise ConfigurationError where somebody has dropped some of the internal tables, but not all."""
    dropped = [name for name in _INTERNAL if not exists(store, name)]
    if dropped and len(dropped) < len(_INTERNAL):
        raise _dropped(store, dropped)


def require_positions(store: Store) -> None:
    """Raise ConfigurationError where tables have rows and no partition has a position.

    The topics would be read from their beginning, and may no longer have the tombstones of rows that are still in the
    tables. The rows are looked for before the positions, since another process may commit its first rows and positions
    between the two statements.
    """
    if any(_has_rows(store, name) for name in known_tables(store)) and not read_positions(store):
        raise ConfigurationError(
            f"FHIRLINE_TABLES_URL: {store.name}: somebody has deleted the rows of {store.of(POSITIONS)}. Nothing was "
            "written; `fhirline tables rebuild --all` makes the tables and the positions anew"
        )


def require_unaltered(store: Store, catalog: Catalog, gone: Iterable[str]) -> None:
    """Raise ConfigurationError where somebody has dropped or altered tables; ``gone``: tables of no view."""
    if dropped := [name for name in _INTERNAL if not exists(store, name)]:
        raise _dropped(store, dropped)
    altered = [table.name for table in catalog.tables.values() if not is_whole(store, table)]
    lost = [name for name in gone if not exists(store, name)]
    if altered or lost:
        by_hand = f", or `fhirline tables rebuild {' '.join(altered)}` does" if altered else ""
        raise ConfigurationError(
            f"FHIRLINE_TABLES_URL: {store.name}: somebody has dropped or altered tables of schema {store.schema}: "
            f"{', '.join(altered + lost)}. Nothing was written; `fhirline tables` rebuilds them when it starts"
            f"{by_hand}"
        )


def _dropped(store: Store, names: Iterable[str]) -> ConfigurationError:
    listed = ", ".join(names)
    if not any(exists(store, name) for name in _INTERNAL):
        return ConfigurationError(
            f"FHIRLINE_TABLES_URL: {store.name}: somebody has dropped schema {store.schema} or its tables. Nothing was "
            "written; `fhirline tables` fills all tables anew when it starts"
        )
    return ConfigurationError(
        f"FHIRLINE_TABLES_URL: {store.name}: somebody has dropped {listed} of schema {store.schema}, without which "
        f"nothing is known of the other tables. Nothing was written; drop the schema (`drop schema "
        f"{quoted(store.schema)} cascade`) and start `fhirline tables`, which fills all tables anew"
    )


def _has_rows(store: Store, name: str) -> bool:
    return exists(store, name) and bool(store.rows(f"select 1 from {store.of(name)} limit 1"))
