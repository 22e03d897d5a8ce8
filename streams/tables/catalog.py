"""The tables of a deployment: those of the views, and the built-in ones."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings
from fhirline.mappers.declarations import DATA_QUALITY
from fhirline.mappers.identity import Naming
from fhirline.streams.tables.built_in import BUILT_IN
from fhirline.streams.tables.table import Table, converter, table_of
from fhirline.streams.tables.views import load_views
from fhirline.streams.tables.views.view import ANY_RESOURCE, Row, View
from fhirline.streams.tables.without_identities.dates import oldest_year
from fhirline.streams.tables.without_identities.hiding import hidden_tables
from fhirline.streams.tables.without_identities.keyed import Keyed, research_key
from fhirline.streams.tables.without_identities.rules import Means
from fhirline.streams.tables.without_identities.words import load_words

OUTCOMES = "OperationOutcome"


class Source:
    """A view's table, and the function that makes its rows from a resource."""

    def __init__(self, table: Table, rows: Callable[[Mapping[str, Any]], Sequence[Sequence[Any]]]) -> None:
        self.table = table
        self.rows = rows
        self.convert = converter(table)
        names = [column.name for column in table.columns]
        self._key = [names.index(name) for name in table.key]

    def fits_key(self, rows: Sequence[Row]) -> bool:
        """Tell whether each row of a resource has a key of its own, without a NULL."""
        if not self._key:
            return True
        keys = {tuple(row[number] for number in self._key) for row in rows}
        return len(keys) == len(rows) and not any(value is None for key in keys for value in key)


class Catalog:
    """The tables. ``flag_system``: of the codes of data-quality flags. ``built_in``: the tables that no view makes.

    ``row_id``: makes the id that rows have from the id of their resource; None where rows have the resource's own id.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        flag_system: str,
        built_in: tuple[Table, ...] = BUILT_IN,
        row_id: Callable[[str], str] | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.flag_system = flag_system
        self.built_in = built_in
        self.without_identities = row_id is not None
        self.row_id: Callable[[str], str] = row_id or (lambda id: id)
        self._given_row_id = row_id
        self._of_type: dict[str, list[Source]] = {}
        for source in self.sources:
            self._of_type.setdefault(source.table.resource, []).append(source)

    @property
    def tables(self) -> dict[str, Table]:
        return {table.name: table for table in (*self.built_in, *(source.table for source in self.sources))}

    def of_type(self, resource_type: str) -> Sequence[Source]:
        """Return the views that have rows of resources of a type.

        Without identities, OperationOutcomes have none: the paths in them have names that a sender may choose.
        """
        if self.without_identities and resource_type == OUTCOMES:
            return ()
        return [*self._of_type.get(resource_type, ()), *self._of_type.get(ANY_RESOURCE, ())]

    def only(self, names: Iterable[str]) -> "Catalog":
        """Return a catalog of some of these tables."""
        wanted = set(names)
        return Catalog(
            [source for source in self.sources if source.table.name in wanted],
            self.flag_system,
            tuple(table for table in self.built_in if table.name in wanted),
            self._given_row_id,
        )


def load_catalog(settings: Settings) -> Catalog:
    """Load the views that ship and those of the deployment's folder. Raises ConfigurationError."""
    folders = () if settings.tables_views is None else (settings.tables_views,)
    views = load_views(*folders, base=settings.base)
    system = Naming(settings.base).code_system(DATA_QUALITY)
    if settings.tables_without_identities:
        return _without_identities(settings, views.values(), system)
    return Catalog([Source(table_of(view), view.rows) for view in views.values()], system)


def _without_identities(settings: Settings, views: Iterable[View], flag_system: str) -> Catalog:
    """Make the catalog of the tables without identities. It has no built-in ones: these are about records, by key."""
    if settings.research_schema == settings.tables_schema:
        raise ConfigurationError(
            f"{PREFIX}RESEARCH_SCHEMA: is {PREFIX}TABLES_SCHEMA too: the tables without identities need a schema of "
            "their own"
        )
    means = Means(
        Keyed(research_key(settings)),
        load_words(settings),
        oldest_year(time.gmtime().tm_year),
        settings.research_dates == "year",
    )
    wanted = [view for view in views if view.resource != OUTCOMES]
    sources = [Source(table, rows) for table, rows in hidden_tables(wanted, means)]
    return Catalog(sources, flag_system, (), means.keyed.hash)
