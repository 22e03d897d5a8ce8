"""The parts that the commands about keys share: the secrets, their file, and options."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError

if TYPE_CHECKING:
    from fhirline.config.settings import Settings
    from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets

SecretsFile = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="The file of encryption secrets. Default: FHIRLINE_ENCRYPTION_FILE."),
]
Kek = Annotated[
    str | None, typer.Option(metavar="ID", help="Id of the new key-encryption key. Default: this month, as 2026-11.")
]


def secrets_path(given: Path | None, settings: "Settings") -> Path:
    """Return the file that is to be changed. Raises ConfigurationError where none is named."""
    if (path := given or settings.encryption_file) is None:
        raise ConfigurationError("--file: name the file of encryption secrets, or set FHIRLINE_ENCRYPTION_FILE")
    return path


def required_secrets(settings: "Settings") -> "EncryptionSecrets":
    """Return the secrets. Raises ConfigurationError where they are not set."""
    from fhirline.streams.kafka.encryption.secrets import encryption

    if (found := encryption(settings)) is None:
        raise ConfigurationError(
            "FHIRLINE_ENCRYPTION: not set, nor FHIRLINE_ENCRYPTION_FILE: set one of them to the deployment's "
            "secrets; `fhirline keys new` makes those of a new deployment"
        )
    return found
