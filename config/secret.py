"""Secrets among the settings: held by ``FHIRLINE_<NAME>``, or by the file that ``FHIRLINE_<NAME>_FILE`` names."""

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX, Settings

Secret = Literal[
    "sasl_password", "sasl_oauth_client_secret", "ssl_key_password", "erasure_key", "infermedica_client_secret"
]


def secret(settings: Settings, name: Secret) -> str | None:
    """The secret; its file, where one is named, is read anew at each call. Raises ConfigurationError."""
    path: Path | None = getattr(settings, f"{name}_file")
    if path is None:
        held = getattr(settings, name)
        return held.get_secret_value() if held is not None else None
    setting = f"{PREFIX}{name.upper()}_FILE"
    try:
        text = path.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{setting}: not UTF-8") from None
    if not text:
        raise ConfigurationError(f"{setting}: the file is empty")
    warn_if_exposed(setting, path)
    return text


@lru_cache(maxsize=256)
def warn_if_exposed(setting: str, path: Path) -> None:
    """Warn, once, of a secret that this machine's other users can read or change.

    Only where the file is this process's own user's: Docker and Kubernetes mount secrets that are root's and readable
    to all, inside a container that nobody else enters, and there is nothing to mend.
    """
    try:
        found = path.stat()
    except OSError:
        return  # whoever reads the file says so
    if found.st_mode & 0o002 or (found.st_mode & 0o004 and found.st_uid == os.geteuid()):
        logging.getLogger("fhirline").warning(
            "%s: other users of this machine can read or change the file; run: chmod 600 on it", setting
        )
