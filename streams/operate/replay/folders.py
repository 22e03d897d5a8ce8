"""The folders of runs in ``FHIRLINE_REPLAY_DIR``: created, locked, listed and removed.

A folder contains changed resources, and so patient data: folders have mode 0700, files 0600. A run's folder gets its
name when it is complete, and loses it before it is removed, so a kill leaves nothing that looks like a run. What a kill
did leave is removed when the next run starts.
"""

import fcntl
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.config.private_files import FILE_MODE, FOLDER_MODE, private_folder
from fhirline.streams.operate.replay.inputs import Inputs, differences
from fhirline.streams.operate.replay.journal import Journal
from fhirline.streams.operate.replay.plan import Plan
from fhirline.streams.operate.replay.remap import Job

ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]+")
UNNAMED = re.compile(rf"\.({ID.pattern})")
"""The name of a run's folder before it is complete, and while it is being removed."""

LOCK = "lock"
BEGUN_WITHIN = 60.0
"""Seconds in which the process that creates a folder has locked it."""


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run whose folder exists. ``plan`` is None where another release wrote it, or it is damaged.

    ``mapped`` and ``to_map``: raw records. ``size``: bytes on disk. ``differing``: inputs that have changed since.
    """

    id: str
    plan: Plan | None
    in_use: bool
    mapped: int
    to_map: int
    size: int
    differing: tuple[str, ...]

    @property
    def state(self) -> str:
        """``in use``, ``unreadable``, ``mapped``, or how much of it is mapped."""
        if self.in_use:
            return "in use"
        if self.plan is None:
            return "unreadable"
        if self.mapped >= self.to_map:
            return "mapped"
        return f"stopped at {100 * self.mapped // self.to_map} %"


def new_id() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"


def create(root: Path, plan: Plan) -> tuple[Path, int]:
    """Create a run's folder. Return it, and the descriptor of its lock. Raises ConfigurationError."""
    folder, unnamed = root / plan.id, root / f".{plan.id}"
    try:
        private_folder(root)
        remove_leftovers(root)
        unnamed.mkdir(FOLDER_MODE)
        try:
            descriptor = lock(unnamed)
            assert descriptor is not None
            plan.save(unnamed)
            unnamed.rename(folder)
        except BaseException:
            shutil.rmtree(unnamed, ignore_errors=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"FHIRLINE_REPLAY_DIR: {folder}: {error.strerror}") from None
    return folder, descriptor


def lock(folder: Path) -> int | None:
    """Lock a run for this process, because two would map into the same journals. Return None where another has it."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def existing(root: Path, option: str, id: str) -> Path:
    """Return the folder of a run. Raises ConfigurationError, which names ``option``, where there is none."""
    known = ids(root)
    if id not in known:  # no part of a path is taken from the argument
        raise ConfigurationError(f"{option}: no run {id!r} in {root}; there: {', '.join(known) or 'none'}")
    return root / id


def ids(root: Path) -> list[str]:
    """Return the runs, the oldest first. Raises ConfigurationError where the folder cannot be read."""
    return [path.name for path in _folders(root, ID)]


def kept(root: Path, inputs: Inputs) -> Iterator[KeptRun]:
    """Read what is known of each run. ``inputs``: those of today, which a run's are compared with.

    Raises ConfigurationError where a folder cannot be read.
    """
    for id in ids(root):
        try:
            yield _kept_run(root / id, inputs)
        except FileNotFoundError:  # it has been removed since
            continue
        except OSError as error:
            raise ConfigurationError(f"FHIRLINE_REPLAY_DIR: {root / id}: {error.strerror}") from None


def kept_run(root: Path, id: str, inputs: Inputs) -> KeptRun | None:
    """Read what is known of one run; None where there is none. Raises ConfigurationError as `kept` does."""
    if id not in ids(root):  # no part of a path is taken from the argument
        return None
    try:
        return _kept_run(root / id, inputs)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"FHIRLINE_REPLAY_DIR: {root / id}: {error.strerror}") from None


def discard(root: Path, id: str) -> None:
    """Remove a run's folder. Raises ConfigurationError where there is none, or another process uses it."""
    folder = existing(root, "--discard", id)
    if (descriptor := lock(folder)) is None:
        raise ConfigurationError(f"--discard: run {id} is in use by another process")
    try:
        remove(folder)
    except OSError as error:
        raise ConfigurationError(f"--discard: {folder}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove the folder of a run that this process has locked. Raises OSError."""
    unnamed = folder.with_name(f".{folder.name}")
    folder.rename(unnamed)
    shutil.rmtree(unnamed)


def leftovers(root: Path) -> list[Path]:
    """Return what processes that were killed, or are at work, have left or have not named yet.

    Raises ConfigurationError where the folder cannot be read.
    """
    return _folders(root, UNNAMED)


def _folders(root: Path, name: re.Pattern[str]) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if name.fullmatch(path.name) and _is_folder(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigurationError(f"FHIRLINE_REPLAY_DIR: {root}: {error.strerror}") from None


def remove_leftovers(root: Path) -> None:
    """Remove what was left by processes that were killed while they created or removed a folder.

    Folders of other users of this machine stay. Raises OSError, and ConfigurationError as `leftovers`.
    """
    for path in leftovers(root):
        if path.stat().st_uid != os.geteuid():
            continue
        if not (path / LOCK).exists() and time.time() - path.stat().st_mtime < BEGUN_WITHIN:
            continue
        if (descriptor := lock(path)) is not None:
            try:
                shutil.rmtree(path)
            finally:
                os.close(descriptor)


def _kept_run(folder: Path, inputs: Inputs) -> KeptRun:
    plan: Plan | None = None
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        plan = Plan.load(folder)
    if (descriptor := lock(folder)) is not None:
        os.close(descriptor)
    in_use = descriptor is None
    mapped = to_map = 0
    changed = differences(plan.inputs, inputs) if plan else ()
    if plan is not None and not in_use:
        try:
            mapped, to_map = _progress(folder, plan)
        except sqlite3.DatabaseError:
            plan = None
    return KeptRun(folder.name, plan, in_use, mapped, to_map, _size(folder), changed)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _progress(folder: Path, plan: Plan) -> tuple[int, int]:
    """Count the raw records of a run's ranges: those that its journals have passed, and all."""
    mapped = 0
    for offset_range in plan.ranges:
        path = Job(offset_range, plan.selection, folder).journal
        if offset_range.length and path.exists():
            with Journal(path) as journal:
                mapped += max(0, min(journal.next or 0, offset_range.end) - offset_range.start)
    return mapped, sum(offset_range.length for offset_range in plan.ranges)


def _size(folder: Path) -> int:
    size = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # of a run that is just being mapped
            size += path.stat().st_size
    return size
