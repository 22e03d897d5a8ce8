"""The files of a run of the stack: its encryption secrets, its erasure key, and the variables for other commands."""

import secrets
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import SecretStr

from fhirline.config.private_files import open_private
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.encryption.secrets import INDEX


def own_secrets(folder: Path) -> dict[str, object]:
    """Write secrets of this run, and return the settings that name their files.

    Those of a deployment are never used.
    """
    encryption = f"{INDEX}:{secrets.token_hex(32)} demo:{secrets.token_hex(32)}"
    return {
        "encryption_file": _written(folder / "encryption", encryption),
        "erasure_key_file": _written(folder / "erasure-key", secrets.token_hex(32)),
    }


def write_variables(
    path: Path, settings: Settings, environment: Mapping[str, str], made: Collection[str], port: int
) -> None:
    """Write the variables with which other commands work on the stack, as a shell reads them.

    ``environment``: that of the stack's processes. ``made``: variables of vendors' secrets that were made for this run.
    ``port``: that of the gateway. Other secrets are left out: they are not the run's, and not to be kept in a file.
    """
    plain = {
        f"{PREFIX}{name.upper()}"
        for name in Settings.model_fields
        if not isinstance(getattr(settings, name), SecretStr) and name != "log_format"
    }
    shown = {name: value for name, value in environment.items() if name in {*plain, *made}}
    shown[f"{PREFIX}GATEWAY_PORT"] = str(port)
    _written(path, "\n".join(f"{name}={shlex.quote(value)}" for name, value in sorted(shown.items())))


def _written(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, and return it."""
    with open_private(path) as file:
        file.write(f"{text}\n".encode())
    return path
