"""``fhirline export``: the newest resources as files."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import INCOMPLETE, INTERRUPTED, UNUSABLE
from fhirline.config.settings import Settings, load_settings
from fhirline.streams.cli.errors import failing_with
from fhirline.streams.cli.help import OPERATE, add
from fhirline.streams.cli.options import instant, known_values, known_vendors

if TYPE_CHECKING:
    from fhirline.streams.tables.catalog import Catalog


class Format(StrEnum):
    """The forms of files."""

    ndjson = "ndjson"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "export", export)


def export(
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder; or one with a stopped export, to go on.")],
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="ndjson: a file per type. parquet: a folder per view. Both may be given."),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Resource types; default: all.")
    ] = None,
    view: Annotated[
        list[str] | None, typer.Option("--view", metavar="VIEW", help="With parquet: views; default: all.")
    ] = None,
    views: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="ViewDefinitions of your own; default: FHIRLINE_TABLES_VIEWS.")
    ] = None,
    vendor: Annotated[list[str] | None, typer.Option("--vendor", help="Only these vendors' resources.")] = None,
    tenant: Annotated[list[str] | None, typer.Option("--tenant", help="Only these tenants' resources.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what was written to Kafka since then, deletions included; RFC 3339."),
    ] = None,
    from_prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="Read the topics that `replay --to-prefix` has written.")
    ] = "",
) -> None:
    """Write the newest resources to files: FHIR NDJSON as Bulk Data has it, Parquet of the SQL views, or both.

    The files contain patient data; only their owner can read them. Everything that was written to Kafka before the
    export began is in them. manifest.json, which is written last, has the number, size and SHA-256 of each.

    Run a stopped or killed export again with the same options, and it goes on.

    Exit codes:

    * 0: complete.
    * 1: a file could not be written. Run the command again to go on.
    * 2: a wrong argument, setting or view, another export in the folder, or the cluster does not answer.
    * 130: interrupted. Run the command again to go on.

    Examples:

    ```console
    $ fhirline export --to exported
    $ fhirline export --to exported --format parquet --view encounter --view condition --vendor altibbi
    ```
    """
    from fhirline.mappers.registry import VENDORS
    from fhirline.streams.cli.output import counting, progress
    from fhirline.streams.observe.terminal import counted
    from fhirline.streams.operate.export.request import Request
    from fhirline.streams.operate.export.run import export as run
    from fhirline.streams.tables.batch import UnfitRows
    from fhirline.topics.declared import RESOURCE_TYPES

    known_values("--type", types or (), RESOURCE_TYPES)
    known_vendors("--vendor", vendor or (), VENDORS)
    instant("--since", since)
    given = {"tables_views": views} if views is not None else {}
    settings = load_settings(**given)
    chosen = set(formats or (Format.ndjson,))
    if (view or views) and Format.parquet not in chosen:
        raise ConfigurationError("--view, --views: need --format parquet")
    if settings.tables_without_identities and Format.ndjson in chosen:
        raise ConfigurationError(
            "FHIRLINE_TABLES_WITHOUT_IDENTITIES: NDJSON would have all identities: write --format parquet only, or "
            "take the setting away"
        )
    catalog = _catalog(settings, view or ()) if Format.parquet in chosen else None
    request = Request(
        base=settings.base,
        types=tuple(name for name in RESOURCE_TYPES if not types or name in types),
        ndjson=Format.ndjson in chosen,
        views=() if catalog is None else tuple(sorted(catalog.tables)),
        digest="" if catalog is None else _digest(catalog),
        vendors=tuple(sorted(set(vendor or ()))),
        tenants=tuple(sorted(set(tenant or ()))),
        since=since,
        prefix=from_prefix,
    )
    again = "run the same command again to go on"
    failures = {OSError: INCOMPLETE, UnfitRows: UNUSABLE, KeyboardInterrupt: INTERRUPTED}
    with failing_with("export", failures, again), progress() as reporter:
        line = shlex.join(["fhirline", *sys.argv[1:]])
        done = run(settings, to, request, catalog, line, counting(reporter))
    files = done.manifest["output"]
    tables = done.manifest["extension"]["tables"]
    resources = sum(file["count"] for file in files)
    parts = [f"{counted(resources, 'resource')} in {counted(len(files), 'file')}"] if request.ndjson else []
    if catalog is not None:
        rows = sum(file["count"] for file in tables)
        parts.append(f"{counted(rows, 'row')} of {counted(len({file['view'] for file in tables}), 'view')}")
    went_on = f" ({counted(done.resumed, 'partition')} by an earlier run)" if done.resumed else ""
    typer.echo(f"{' and '.join(parts)} written to {to}{went_on}")


def _catalog(settings: Settings, names: list[str] | tuple[str, ...]) -> "Catalog":
    """Load the views that are asked for. Raises ConfigurationError, also where pyarrow is not installed."""
    from importlib.util import find_spec

    from fhirline.streams.tables.catalog import load_catalog

    if find_spec("pyarrow") is None:
        raise ConfigurationError("--format parquet: needs pyarrow: pip install 'fhirline[tables]'")
    catalog = load_catalog(settings)
    known_values("--view", names, tuple(catalog.tables))
    return catalog.only(names) if names else catalog


def _digest(catalog: "Catalog") -> str:
    """Return a digest of the definitions of all tables: a resumed export must have the same."""
    from hashlib import sha256

    return sha256("\n".join(table.digest for _, table in sorted(catalog.tables.items())).encode()).hexdigest()[:16]
