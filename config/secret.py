"""Secrets among the settings: the value of ``FHIRLINE_<NAME>``, or of the file named by ``FHIRLINE_<NAME>_FILE``."""

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings

Secret = Literal[
    "sasl_password",
    "sasl_oauth_client_secret",
    "ssl_key_password",
    "erasure_key",
    "infermedica_client_secret",
    "fhir_password",
    "tables_password",
    "fhir_oauth_client_secret",
    "research_key",
    "encryption",
    "console_token",
]


def secret(settings: Settings, name: Secret) -> str | None:
    """Return a secret, or None where it is not set. A named file is read at each call.

    Raises ConfigurationError for a file that cannot be read, is not UTF-8 or is empty.
    """
    path: Path | None = getattr(settings, f"{name}_file")
    if path is None:
        held = getattr(settings, name)
        return held.get_secret_value() if held is not None else None
    return read_secret_file(f"{PREFIX}{name.upper()}_FILE", path)


def read_secret_file(setting: str, path: Path) -> str:
    """Return the text of a file that a setting names. Raises ConfigurationError as `secret` does."""
    try:
        text = path.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {error.strerror}: {path}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{setting}: not UTF-8 text: {path}") from None
    if not text:
        raise ConfigurationError(f"{setting}: the file is empty: {path}")
    warn_if_exposed(setting, path)
    return text


@lru_cache(maxsize=256)
def warn_if_exposed(setting: str, path: Path) -> None:
    """Log a warning, once, if other users of this machine can change the file, or read one that this user owns.

    Docker and Kubernetes mount secrets that root owns and all may read, inside a container without other users: that
    needs no warning.
    """
    try:
        found = path.stat()
    except OSError:
        return  # reading the file reports the error
    if found.st_mode & 0o002 or (found.st_mode & 0o004 and found.st_uid == os.geteuid()):
        logging.getLogger("fhirline").warning(
            "%s: other users of this machine can read or change the file; run: chmod 600 on it", setting
        )
