"""``fhirline keys new``."""

from pathlib import Path
from typing import Annotated

import typer

from fhirline.streams.cli.keys.session import Kek


def new(
    file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write to this file, with mode 0600. Default: print.")
    ] = None,
    kek: Kek = None,
) -> None:
    """Make the encryption secrets of a deployment: an index secret and the first key-encryption key.

    Keep copies of them apart from Kafka and its backups: what is encrypted cannot be read without them. An existing
    file is not overwritten. See docs/encryption.md.

    Exit codes:

    * 0: made.
    * 2: the file exists or cannot be written, or the id is unusable.

    Example:

    ```console
    $ fhirline keys new --file /run/secrets/encryption
    ```
    """
    from fhirline.streams.operate.keys.secrets_file import create, new_id, new_secrets

    made = new_secrets(kek or new_id())
    if file is None:
        print(made.text, end="")
        return
    create(file, made)
    print(f"written: {file}, with the key-encryption key {made.current}. Copy it to two places apart from Kafka.")
