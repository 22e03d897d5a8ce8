"""``fhirline conformance``: the FHIR definitions of what this deployment's resources contain."""

import os
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import DEFAULT_BASE, load_settings
from fhirline.streams.cli.errors import warn
from fhirline.streams.cli.help import OPERATE, add
from fhirline.streams.observe.terminal import counted


class Format(StrEnum):
    """The forms in which the definitions are written."""

    package = "package"
    ndjson = "ndjson"
    bundle = "bundle"


ENDINGS = {Format.package: ".tgz", Format.ndjson: ".ndjson", Format.bundle: "-bundle.json"}


def register(app: typer.Typer) -> None:
    add(app, OPERATE, "conformance", conformance)


def conformance(
    output: Annotated[
        str,
        typer.Option(metavar="DIR|FILE", help="Where to write: a folder, a file, or - for standard output."),
    ] = ".",
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="package: a FHIR package (.tgz) for validators and servers. ndjson: a definition per line. "
            "bundle: a transaction that a server loads.",
        ),
    ] = Format.package,
    time_zones: Annotated[
        bool,
        typer.Option(
            "--time-zones/--no-time-zones",
            help="Include a CodeSystem of IANA's time zones, which is not ours. Leave it out where a server has one.",
        ),
    ] = True,
) -> None:
    """Write the FHIR definitions of what this deployment's resources contain.

    The definitions are a StructureDefinition for each extension, CodeSystems and ValueSets, a ConceptMap for each code
    table, a NamingSystem for each kind of identifiers, and an ImplementationGuide. They depend on FHIRLINE_BASE, the
    tenants of vendors.yaml and the code tables, and on nothing else: the same settings give the same bytes. A file that
    exists is replaced. docs/conformance.md shows how to load them.

    Exit codes:

    * 0: written.
    * 2: a wrong setting or table, or the file cannot be written.

    Examples:

    ```console
    $ fhirline conformance --output /tmp
    $ fhirline conformance --format ndjson --output -
    ```
    """
    import fhirline
    from fhirline.config.terminology import load_terminology
    from fhirline.config.vendors import load_vendors
    from fhirline.mappers.conformance import formats
    from fhirline.mappers.conformance.definition import Deployment
    from fhirline.mappers.conformance.guide import definitions, definitions_version
    from fhirline.mappers.identity import Naming

    settings = load_settings()
    if settings.base == DEFAULT_BASE:
        warn("conformance", f"FHIRLINE_BASE is the example's, {DEFAULT_BASE}: set it as your workers have it")
    deployment = Deployment(
        Naming(settings.base, settings.server_base or ""),
        load_vendors(settings.vendors_file),
        load_terminology(settings.terminology_dir),
        definitions_version(fhirline.__version__),
    )
    made = definitions(deployment, time_zones)
    match form:
        case Format.package:
            value = formats.as_package(made)
        case Format.ndjson:
            value = formats.as_ndjson(made)
        case Format.bundle:
            value = formats.as_bundle(made, deployment.naming.server_base)
    guide = made[-1]
    if output == "-":
        sys.stdout.buffer.write(value)
        return
    path = Path(output)
    if path.is_dir() or output.endswith("/"):
        path /= f"{guide['packageId']}-{guide['version']}{ENDINGS[form]}"
    _replace(path, value)
    types = Counter(resource["resourceType"] for resource in made)
    print(f"{path}: {counted(len(made), 'definition')}: {', '.join(counted(n, name) for name, n in types.items())}")


def _replace(path: Path, value: bytes) -> None:
    """Write a file whole or not at all. Raises ConfigurationError."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(value)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigurationError(f"--output: cannot write {path}: {error.strerror}") from None
