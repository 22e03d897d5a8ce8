"""The request for an export, and its journal: which partitions are in its files, and how far the files reach.

**Invariant.** A partition is noted as done only after everything of it is on disk, with the sizes of the files as they
are then. An export that was killed goes on behind the last partition noted: files that have grown since are cut back to
their noted sizes, so no line is there twice or in part.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.config.private_files import open_private, private_folder
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import TopicPartition

JOURNAL = ".export.json"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Request:
    """A request for an export. ``vendors`` and ``tenants``: of these only; empty: of all.

    ``since``: only what was written to Kafka at or after this time, RFC 3339. ``prefix``: of the topics, as `fhirline
    replay --to-prefix` makes them. ``views``: names of the views that become Parquet files, with the ``digest`` of
    their definitions.
    """

    base: str
    types: tuple[str, ...]
    ndjson: bool
    views: tuple[str, ...]
    digest: str = ""
    vendors: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    since: str | None = None
    prefix: str = ""

    @property
    def since_ms(self) -> int:
        at = Instant.parse(self.since) if self.since is not None else None
        return 0 if at is None else at.milliseconds


@dataclass(slots=True)
class Journal:
    """The journal of one folder. ``counts``: resources or rows of each file. ``sizes``: bytes of files that grow."""

    folder: Path
    request: Request
    started: str
    done: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def is_done(self, partition: TopicPartition) -> bool:
        return str(partition) in self.done

    def note(self, partition: TopicPartition, counts: dict[str, int], sizes: dict[str, int]) -> None:
        """Note a partition as done. All files must be on disk."""
        self.done.append(str(partition))
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self.sizes |= sizes
        self.save()

    def save(self) -> None:
        content = {name: value for name, value in asdict(self).items() if name != "folder"}
        write_whole(self.folder / JOURNAL, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def remove(self) -> None:
        (self.folder / JOURNAL).unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, created where it is missing, for this process alone. Raises ConfigurationError and OSError."""
    private_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"{folder}: another process exports into it; wait, or name another") from None
        yield
    finally:
        os.close(descriptor)


def begin(folder: Path, request: Request) -> Journal:
    """Open the journal of a folder that is `locked`.

    Raises ConfigurationError where the folder has something else: a finished export, one of another request, other
    files.
    """
    journal = _read(folder / JOURNAL)
    if journal is None:
        if unexpected := sorted(path.name for path in folder.iterdir()):
            what = "a finished export" if MANIFEST in unexpected else "other files"
            raise ConfigurationError(f"{folder}: has {what}; name an empty folder, or a new one")
        new = Journal(folder, request, datetime.now(UTC).isoformat(timespec="milliseconds"))
        new.save()
        return new
    noted = Journal(folder, **journal)
    if (differing := _differing(journal["request"], request)) is not None:
        raise ConfigurationError(
            f"{folder}: has a part of an export with another {differing}; give the same options, or a new folder"
        )
    noted.request = request
    return noted


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError:
        raise ConfigurationError(f"{path}: is damaged; export into a new folder") from None
    if not isinstance(content, dict) or content.keys() != {"request", "started", "done", "counts", "sizes"}:
        raise ConfigurationError(f"{path}: another release wrote it; export into a new folder")
    return content


def _differing(noted: dict[str, Any], request: Request) -> str | None:
    """Name an option that differs from the journal's; None where all are the same."""
    asked = orjson.loads(orjson.dumps(asdict(request)))
    return next((name for name in asked if asked[name] != noted.get(name)), None)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, whenever the process ends."""
    part = path.with_name(path.name + ".part")
    with open_private(part) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def remove_parts(folder: Path) -> None:
    """Remove what a killed process has left of files that were not finished."""
    for path in folder.rglob("*.part"):
        path.unlink()
