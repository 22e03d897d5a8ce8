"""Changing the file of encryption secrets, so that a process that reads it meanwhile finds the old or the new one."""

import os
import re
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.config.private_files import FILE_MODE
from fhirline.config.secret import read_secret_file
from fhirline.streams.kafka.encryption.secrets import INDEX, EncryptionSecrets, parse

SETTING = "FHIRLINE_ENCRYPTION_FILE"
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


def new_id() -> str:
    """Return the id that a key-encryption key made now gets: the month."""
    return f"{datetime.now(UTC):%Y-%m}"


def new_secrets(id: str) -> EncryptionSecrets:
    """Make the secrets of a deployment, with one key-encryption key. Raises ConfigurationError for an unusable id."""
    return EncryptionSecrets(os.urandom(32), {_checked(id): os.urandom(32)})


def create(path: Path, secrets: EncryptionSecrets) -> None:
    """Write a new file, with mode 0600. Raises ConfigurationError where there is one already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    except FileExistsError:
        raise ConfigurationError(
            f"--file {path}: exists; what is encrypted with its secrets cannot be read without them"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    _fill(descriptor, secrets)


def read(path: Path) -> EncryptionSecrets:
    """Read the file. Raises ConfigurationError."""
    return parse(read_secret_file(SETTING, path))


def add_key(path: Path, id: str) -> EncryptionSecrets:
    """Append a new key-encryption key, which unwraps and does not wrap yet. Raises ConfigurationError."""
    held = read(path)
    if _checked(id) in held.keks:
        raise ConfigurationError(f"--kek {id}: is in the file already; choose another id")
    changed = EncryptionSecrets(held.index_secret, {**held.keks, id: os.urandom(32)})
    _write(path, changed)
    return changed


def activate(path: Path, id: str) -> EncryptionSecrets:
    """Let a key-encryption key of the file wrap from now on. Raises ConfigurationError."""
    held = read(path)
    if id not in held.keks:
        raise ConfigurationError(f"--activate {id}: the file has only {', '.join(held.keks)}")
    changed = EncryptionSecrets(held.index_secret, {id: held.keks[id], **held.keks})
    _write(path, changed)
    return changed


def remove(path: Path, ids: set[str]) -> EncryptionSecrets:
    """Remove key-encryption keys. Raises ConfigurationError where the first one is among them."""
    held = read(path)
    if held.current in ids:
        raise ConfigurationError(f"{SETTING}: {held.current} wraps new data keys, and must stay")
    changed = EncryptionSecrets(held.index_secret, {id: key for id, key in held.keks.items() if id not in ids})
    _write(path, changed)
    return changed


def _checked(id: str) -> str:
    if not _ID.fullmatch(id) or id == INDEX:
        raise ConfigurationError(f"--kek: must match {_ID.pattern}, and not be {INDEX}")
    return id


def _write(path: Path, secrets: EncryptionSecrets) -> None:
    """Replace the file in one step, once its content is on the disk. Raises ConfigurationError.

    It keeps its mode, owner and group, by which processes of other users read it. A link keeps leading to it.
    """
    try:
        path = path.resolve()
        was = path.stat()
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, was.st_uid, was.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(was.st_mode))
            _fill(descriptor, secrets)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def _fill(descriptor: int, secrets: EncryptionSecrets) -> None:
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.text)
        file.flush()
        os.fsync(file.fileno())
