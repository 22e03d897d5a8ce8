"""Running an export: partition by partition, so that a stopped one goes on where it was."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import TopicPartition, from_confluent
from fhirline.streams.operate.export.manifest import PARQUET, write_manifest
from fhirline.streams.operate.export.ndjson import NdjsonFiles
from fhirline.streams.operate.export.newest import newest
from fhirline.streams.operate.export.request import Request, begin, locked, remove_parts
from fhirline.topics.declared import canonical_topic

if TYPE_CHECKING:
    from fhirline.streams.operate.export.parquet import ParquetFiles
    from fhirline.streams.tables.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export. ``resumed``: partitions that an earlier run had written already."""

    manifest: dict[str, Any]
    resumed: int


def export(
    settings: Settings,
    folder: Path,
    request: Request,
    catalog: "Catalog | None",
    request_line: str,
    progress: Progress | None = None,
    between: Callable[[], None] = lambda: None,
) -> Exported:
    """Write the newest resources to files in a folder, or go on with what an earlier run has begun there.

    ``catalog``: the views that become Parquet files; None for NDJSON alone. ``request_line``: for the
    manifest. ``between`` is called after each partition, and may raise to stop. Raises ConfigurationError,
    KafkaAccessError, UnfitRows and OSError; each leaves what is done, for the next run.
    """
    with locked(folder):
        journal = begin(folder, request)
        remove_parts(folder)
        resumed = len(journal.done)
        files = NdjsonFiles(folder, journal.sizes)
        try:
            with Scanner(settings, progress) as scanner:
                for resource_type, partition in _partitions(scanner, request):
                    if journal.is_done(partition):
                        continue
                    counts = _export_partition(scanner, partition, resource_type, request, catalog, folder, files)
                    added, sizes = files.sync()
                    journal.note(partition, counts | added, sizes)
                    between()
        finally:
            files.close()
        return Exported(write_manifest(journal, request_line), resumed)


def _partitions(scanner: Scanner, request: Request) -> list[tuple[str, TopicPartition]]:
    """Return the partitions of all topics with their types. Raises ConfigurationError where there is no such topic."""
    found = [
        (resource_type, partition)
        for resource_type in request.types
        for partition in scanner.topic_partitions([request.prefix + canonical_topic(resource_type)])
    ]
    if not found:
        name = request.prefix + canonical_topic(request.types[0])
        remedy = "run `fhirline topics apply`" if not request.prefix else "check --from-prefix"
        raise ConfigurationError(f"topic {name} is missing, and so are all others that are asked for: {remedy}")
    return found


def _export_partition(
    scanner: Scanner,
    partition: TopicPartition,
    resource_type: str,
    request: Request,
    catalog: "Catalog | None",
    folder: Path,
    files: NdjsonFiles,
) -> dict[str, int]:
    """Write the files of one partition. Return the rows of its Parquet files."""
    parquet = _parquet(folder, catalog, f"{resource_type}-{partition.partition:03}") if catalog is not None else None
    try:
        for message in newest(scanner, partition):
            record = from_confluent(message)
            if record.key is None or record.timestamp_ms < request.since_ms or not _is_wanted(record.headers, request):
                continue
            if record.value is None:
                if request.ndjson and request.since is not None:
                    files.add_deleted(record.key.decode("utf-8", "replace"))
                continue
            if request.ndjson:
                files.add(resource_type, record.value)
            if parquet is not None:
                parquet.add(record)
        return {} if parquet is None else {f"{PARQUET}/{name}": rows for name, rows in parquet.finish().items()}
    finally:
        if parquet is not None:
            parquet.abandon()


def _parquet(folder: Path, catalog: "Catalog", stem: str) -> "ParquetFiles":
    from fhirline.streams.operate.export.parquet import ParquetFiles

    return ParquetFiles(folder / PARQUET, catalog, stem)


def _is_wanted(headers: Any, request: Request) -> bool:
    """Tell whether a record is of a vendor and a tenant that are asked for."""
    return (not request.vendors or header(headers, "vendor") in request.vendors) and (
        not request.tenants or header(headers, "tenant") in request.tenants
    )
