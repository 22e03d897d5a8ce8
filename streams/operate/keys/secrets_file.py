"""Changing the file of encryption secrets, so that a process that reads it meanwhile finds the old or the new one."""

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.config.private_files import FILE_MODE
from fhirline.config.secret import read_secret_file
from fhirline.streams.kafka.encryption.secrets import INDEX, EncryptionSecrets, parse

SETTING = "FHIRLINE_ENCRYPTION_FILE"
_UNFINISHED = ".unfinished"
"""End of the name of a file that is about to replace the file of secrets."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


def new_id(taken: Collection[str] = ()) -> str:
    """Return the id of a new key-encryption key: the month, with a letter from the second one of the month on.

    Raises ConfigurationError where all of the month are taken.

    >>> new_id([new_id()]).removeprefix(new_id())
    'b'
    """
    month = datetime.now(UTC).strftime("%Y-%m")
    names = (month, *(month + letter for letter in "bcdefghijklmnopqrstuvwxyz"))
    if (found := next((name for name in names if name not in taken), None)) is None:
        raise ConfigurationError(f"--kek: required, since all ids of {month} are taken")
    return found


def new_secrets(id: str) -> EncryptionSecrets:
    """Make the secrets of a deployment, with one key-encryption key. Raises ConfigurationError for an unusable id."""
    return EncryptionSecrets(os.urandom(32), {_checked(id): os.urandom(32)})


def create(path: Path, secrets: EncryptionSecrets, announce: Callable[[], None] = lambda: None) -> None:
    """Write a new file, with mode 0600. Raises ConfigurationError where there is one already.

    ``announce`` is called once nothing but the writing can fail, and before it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    except FileExistsError:
        raise ConfigurationError(f"--file {path}: {_existing(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise ConfigurationError(f"--file {path}: {_reason(error)}") from None
    try:
        announce()
        try:
            _fill(descriptor, secrets)
            _sync(path.parent)
        except OSError as error:
            raise ConfigurationError(f"--file {path}: {_reason(error)}") from None
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)  # a file without secrets would keep the next run from writing them
        raise
    finally:
        os.close(descriptor)


def _existing(path: Path) -> str:
    """Say what is in the place of a new file, and what that means."""
    if path.is_symlink() and not path.exists():
        return "is a link that leads nowhere"
    if path.is_file() and not path.stat().st_size:
        return "exists, and is empty: an earlier run was killed before it wrote secrets; remove the file"
    return "exists; what is encrypted with its secrets cannot be read without them"


def read(path: Path) -> EncryptionSecrets:
    """Read the file. Raises ConfigurationError."""
    return parse(read_secret_file(SETTING, path))


def with_key(held: EncryptionSecrets, id: str) -> EncryptionSecrets:
    """Append a new key-encryption key, which unwraps and does not wrap yet. Raises ConfigurationError."""
    if _checked(id) in held.keks:
        raise ConfigurationError(
            f"--kek {id}: is in the file already: an earlier run has added it, or it is an older key; for a new one "
            "choose another id"
        )
    return EncryptionSecrets(held.index_secret, {**held.keks, id: os.urandom(32)})


def activated(held: EncryptionSecrets, id: str) -> EncryptionSecrets:
    """Let a key-encryption key wrap from now on. Raises ConfigurationError."""
    if id not in held.keks:
        raise ConfigurationError(f"--activate {id}: the file has only {', '.join(held.keks)}")
    return EncryptionSecrets(held.index_secret, {id: held.keks[id], **held.keks})


def add_key(path: Path, id: str) -> EncryptionSecrets:
    """Write the file `with_key`. Raises ConfigurationError."""
    with _changing(path) as found:
        return _write(found, with_key(read(path), id))


def activate(path: Path, id: str) -> EncryptionSecrets:
    """Write the file with another key `activated`. Raises ConfigurationError."""
    with _changing(path) as found:
        return _write(found, activated(read(path), id))


def remove(path: Path, ids: set[str]) -> EncryptionSecrets:
    """Remove key-encryption keys. Raises ConfigurationError where the first one is among them."""
    with _changing(path) as found:
        held = read(path)
        if held.current in ids:
            raise ConfigurationError(f"{SETTING}: {held.current} wraps new data keys, and must stay")
        left = {id: key for id, key in held.keks.items() if id not in ids}
        return _write(found, EncryptionSecrets(held.index_secret, left))


def left_over(path: Path) -> list[Path]:
    """Return the files with secrets that commands left beside the file when they were killed while they changed it.

    Raises ConfigurationError where the folder cannot be read.
    """
    with _changing(path) as found:  # whoever writes such a file holds the same lock until it has replaced the other
        return _left_over(found)


def remove_left_over(path: Path) -> list[Path]:
    """Remove all such files, and return them. Raises ConfigurationError."""
    with _changing(path) as found:
        paths = _left_over(found)
        for item in paths:
            item.unlink(missing_ok=True)
        return paths


def _left_over(path: Path) -> list[Path]:
    begin = f".{path.name}."
    return sorted(
        item for item in path.parent.iterdir() if item.name.startswith(begin) and item.name.endswith(_UNFINISHED)
    )


def _checked(id: str) -> str:
    if not _ID.fullmatch(id) or id == INDEX:
        raise ConfigurationError(f"--kek: must match {_ID.pattern}, and not be {INDEX}")
    return id


@contextmanager
def _changing(path: Path) -> Iterator[Path]:
    """Keep other processes from changing the file. Of two that have read it, the second would remove the first's key.

    The folder is locked, since the file is replaced. Yields the file that a link leads to. Raises ConfigurationError,
    also for an OSError while the lock is held.
    """
    try:
        path = path.resolve()
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(f"{path}: {_reason(error)}") from None


def _write(path: Path, secrets: EncryptionSecrets) -> EncryptionSecrets:
    """Replace the file in one step, once its content is on the disk. Return the secrets. Raises OSError.

    It keeps its mode, owner and group, by which processes of other users read it. A link keeps leading to it.
    """
    was = path.stat()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_UNFINISHED, dir=path.parent)
    try:
        if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, was.st_uid, was.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(was.st_mode))
        _fill(descriptor, secrets)
        Path(name).replace(path)
        _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return secrets


def _sync(folder: Path) -> None:
    """Write a folder's entries to the disk: else a power failure may bring back the file that was replaced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(descriptor: int, secrets: EncryptionSecrets) -> None:
    with os.fdopen(descriptor, "w", closefd=False) as file:
        file.write(secrets.text)
    os.fsync(descriptor)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
