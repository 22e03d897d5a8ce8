"""``fhirline tables``: keep SQL tables of the resources in PostgreSQL, a DuckDB file or a lakehouse of Delta tables."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import OTHER_WRITER, UNCOMMITTED, UNUSABLE
from fhirline.config.settings import Settings, load_settings
from fhirline.streams.cli.errors import failing_with
from fhirline.streams.cli.help import RUN, group
from fhirline.streams.cli.table_views import dictionary, views

if TYPE_CHECKING:
    from fhirline.streams.tables.catalog import Catalog
    from fhirline.streams.tables.store import Store
    from fhirline.streams.tables.topics import Topics

HELP = """Keep SQL tables of the resources in PostgreSQL, a DuckDB file or Delta tables, current within seconds.

Reads `fhir.r4.*` and `normalizer.outcome`. Each batch is one transaction of rows and positions, so the tables are
right after any kill. In a lakehouse, delta:FOLDER, it is one commit per table (docs/lakehouse.md). Runs until SIGTERM
or Ctrl-C. With PostgreSQL, several processes share the work (docs/warehouse.md).

Exit codes:

* 0: stopped, or with --once, all topics were read to their ends.
* 2: a wrong setting or view, a missing topic or privilege, a database that refuses, or topics that were made anew.
* 70: the database did not answer at the start.
* 75: a process of another consumer group keeps the same tables, or another one has changed them. Nothing was written.

Example, for trying:

```console
$ fhirline tables --to duckdb:fhirline.duckdb --once
```
"""

To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="URL",
        help="postgresql://user@host/db, duckdb:FILE or delta:FOLDER; default: FHIRLINE_TABLES_URL.",
    ),
]
WithoutIdentities = Annotated[
    bool,
    typer.Option(
        "--without-identities",
        help="The tables without identities, in a schema of their own (docs/without-identities.md).",
    ),
]
Views = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="ViewDefinitions of your own; default: FHIRLINE_TABLES_VIEWS.")
]


def register(app: typer.Typer) -> None:
    commands = group(app, "tables", HELP, RUN)
    commands.info.no_args_is_help = False
    commands.callback(invoke_without_command=True, help=HELP)(tables)
    commands.command("views")(views)
    commands.command("dictionary")(dictionary)
    commands.command("rebuild")(rebuild)
    commands.command("compact")(compact)


def tables(
    context: typer.Context,
    to: To = None,
    views: Views = None,
    without_identities: WithoutIdentities = False,
    once: Annotated[bool, typer.Option("--once", help="End when all topics have been read to their ends.")] = False,
    drop_gone: Annotated[
        bool, typer.Option("--drop-gone", help="Drop the tables of views that are gone; else they are kept.")
    ] = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    import asyncio

    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.tables.service import serve

    settings = _settings(to, views, without_identities)
    configure_logging(settings)
    require_topics(settings, "tables")
    with _failures():
        asyncio.run(serve(settings, drop_gone, once))


def rebuild(
    views: Annotated[list[str] | None, typer.Argument(metavar="VIEW", help="Tables to rebuild.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Rebuild all tables, also where the topics were made anew.")
    ] = False,
    to: To = None,
    without_identities: WithoutIdentities = False,
    folder: Annotated[
        Path | None,
        typer.Option("--views", metavar="FOLDER", help="ViewDefinitions of your own; default: FHIRLINE_TABLES_VIEWS."),
    ] = None,
) -> None:
    """Make tables anew from the topics, beside the live ones, and swap them in one transaction.

    Readers have the old tables until then. With PostgreSQL, a running `fhirline tables` goes on meanwhile. Outcomes
    that retention has deleted from their topic are kept as they are.

    Exit codes:

    * 0: rebuilt.
    * 2: a wrong argument, setting or view, a missing topic or privilege, or a database that refuses.
    * 70: the database did not answer. The old tables are in their places.
    * 75: another process prepares or rebuilds the tables, has changed a DuckDB file, or has written a Delta table.
    """
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.cli.output import counting, progress
    from fhirline.streams.observe.terminal import counted
    from fhirline.streams.tables import altered, schema
    from fhirline.streams.tables.catalog import load_catalog
    from fhirline.streams.tables.open_store import is_lakehouse
    from fhirline.streams.tables.positions import topic_ids
    from fhirline.streams.tables.rebuild import Rebuild
    from fhirline.streams.tables.store import OtherWriter
    from fhirline.streams.tables.topics import read_topics, require_same_topics

    if bool(views) == everything:
        raise ConfigurationError("tables rebuild: name tables, or give --all")
    settings = _settings(to, folder, without_identities)
    catalog = load_catalog(settings)
    if unknown := sorted({*(views or ())} - catalog.tables.keys()):
        raise ConfigurationError(f"tables rebuild: no such table: {unknown[0]}; `fhirline tables views` lists them")
    require_topics(settings, "tables")
    topics = read_topics(settings)
    if is_lakehouse(settings):
        _rebuild_lakehouse(settings, catalog, topics, views)
        return
    with _failures(), _opened(settings) as store, store.alone() as alone, progress() as reporter:
        if not alone:
            raise OtherWriter(f"{store.name}: another process prepares or rebuilds the tables: wait until it is done")
        altered.require_all_or_none(store)
        schema.prepare(store, catalog.without_identities)
        chosen = catalog if everything else catalog.only(views or ())
        work = Rebuild(settings, store, chosen, counting(reporter, "rebuilding"))
        if everything:
            records = work.of_everything(topics)
        else:
            require_same_topics(topics, topic_ids(store), f"{store.name}, schema {store.schema}")
            records = work.of_views()
    typer.echo(f"{counted(len(chosen.tables), 'table')} rebuilt from {counted(records, 'record')}")


def _rebuild_lakehouse(settings: Settings, catalog: "Catalog", topics: "Topics", views: list[str] | None) -> None:
    from fhirline.streams.cli.output import counting, progress
    from fhirline.streams.observe.terminal import counted
    from fhirline.streams.tables.delta.rebuilding import LakeRebuild
    from fhirline.streams.tables.open_store import open_lakehouse

    with _failures(), progress() as reporter:
        house = open_lakehouse(settings)
        house.prepare(catalog.without_identities)
        work = LakeRebuild(settings, house, catalog, topics, counting(reporter, "rebuilding"))
        if views:
            work.wanted()  # refuses topics that were made anew
            records = work.of_views(views)
        else:
            records = work.of_everything()
    typer.echo(f"{counted(len(views or catalog.tables), 'table')} rebuilt from {counted(records, 'record')}")


def compact(
    to: To = None,
    without_identities: WithoutIdentities = False,
    keep_hours: Annotated[
        int,
        typer.Option(
            min=0,
            help="Delta: keep files of deleted rows for so long, for queries that read them; "
            "0 only while no other process writes the tables.",
        ),
    ] = 1,
) -> None:
    """Rewrite a DuckDB file without the bytes of deleted rows; merge small files of Delta tables and delete old ones.

    A running `fhirline tables` does this by itself: with DuckDB after the deletion of a patient, with Delta about once
    an hour. PostgreSQL has VACUUM.

    Exit codes:

    * 0: rewritten.
    * 2: a wrong setting, no DuckDB file or lakehouse, or a DuckDB file that another process has open.
    * 70: the file or folder could not be written. The tables are as they were.
    * 75: the file was changed by another process.
    """
    from fhirline.streams.observe.terminal import counted
    from fhirline.streams.tables import schema
    from fhirline.streams.tables.open_store import is_lakehouse, open_lakehouse

    settings = _settings(to, None, without_identities)
    if is_lakehouse(settings):
        with _failures():
            house = open_lakehouse(settings)
            if house.state() is None:
                raise ConfigurationError(f"tables compact: {house.where} has no tables: start `fhirline tables`")
            house.prepare(settings.tables_without_identities)
            typer.echo(f"{counted(house.tidy(keep_hours), 'file')} deleted")
        return
    if not (settings.tables_url or "").startswith("duckdb:"):
        raise ConfigurationError("tables compact: rewrites DuckDB files and Delta tables; PostgreSQL has VACUUM")
    with _failures(), _opened(settings) as store:
        schema.prepare(store, settings.tables_without_identities)
        store.erase_deleted_bytes()
        schema.note_erased(store, False)
    typer.echo("rewritten")


def _settings(to: str | None, views: Path | None, without_identities: bool) -> Settings:
    given = {"tables_url": to, "tables_views": views, "tables_without_identities": without_identities or None}
    return load_settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def _opened(settings: Settings) -> "Iterator[Store]":
    from fhirline.streams.tables.open_store import open_store

    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


def _failures() -> AbstractContextManager[None]:
    """Return a context that ends the command with one line and an exit code for what only this command raises."""
    from fhirline.streams.tables.batch import UnfitRows
    from fhirline.streams.tables.store import OtherWriter, StoreUnavailable

    return failing_with("tables", {UnfitRows: UNUSABLE, OtherWriter: OTHER_WRITER, StoreUnavailable: UNCOMMITTED})
