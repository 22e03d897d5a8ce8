"""The tables of a deployment: those of the views, and the built-in ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fhirline.config.settings import Settings
from fhirline.mappers.declarations import DATA_QUALITY
from fhirline.mappers.identity import Naming
from fhirline.streams.tables.built_in import BUILT_IN
from fhirline.streams.tables.table import Table, converter, table_of
from fhirline.streams.tables.views import load_views
from fhirline.streams.tables.views.view import ANY_RESOURCE, Row


class Source:
    """A view: how rows of its table are made of a resource."""

    def __init__(self, table: Table, rows: Callable[[Mapping[str, Any]], Sequence[Sequence[Any]]]) -> None:
        self.table = table
        self.rows = rows
        self.convert = converter(table)
        names = [column.name for column in table.columns]
        self._key = [names.index(name) for name in table.key]

    def fits_key(self, rows: Sequence[Row]) -> bool:
        """Tell whether the rows of a resource have each another key, and whole ones."""
        if not self._key:
            return True
        keys = {tuple(row[number] for number in self._key) for row in rows}
        return len(keys) == len(rows) and not any(value is None for key in keys for value in key)


class Catalog:
    """``flag_system``: of the codes of data-quality flags. ``built_in``: the tables that are no view's."""

    def __init__(self, sources: Iterable[Source], flag_system: str, built_in: tuple[Table, ...] = BUILT_IN) -> None:
        self.sources = tuple(sources)
        self.flag_system = flag_system
        self.built_in = built_in
        self._of_type: dict[str, list[Source]] = {}
        for source in self.sources:
            self._of_type.setdefault(source.table.resource, []).append(source)

    @property
    def tables(self) -> dict[str, Table]:
        return {table.name: table for table in (*self.built_in, *(source.table for source in self.sources))}

    def of_type(self, resource_type: str) -> Sequence[Source]:
        """Return the views that have rows of resources of a type."""
        return [*self._of_type.get(resource_type, ()), *self._of_type.get(ANY_RESOURCE, ())]

    def only(self, names: Iterable[str]) -> "Catalog":
        """Return a catalog of some of these tables."""
        wanted = set(names)
        return Catalog(
            [source for source in self.sources if source.table.name in wanted],
            self.flag_system,
            tuple(table for table in self.built_in if table.name in wanted),
        )


def load_catalog(settings: Settings) -> Catalog:
    """Load the views that ship and those of the deployment's folder. Raises ConfigurationError."""
    folders = () if settings.tables_views is None else (settings.tables_views,)
    views = load_views(*folders, base=settings.base)
    system = Naming(settings.base).code_system(DATA_QUALITY)
    return Catalog([Source(table_of(view), view.rows) for view in views.values()], system)
