"""``fhirline keys new``: the first secrets of a deployment."""

from pathlib import Path
from typing import Annotated

import typer

from fhirline.streams.cli.keys.session import Kek
from fhirline.streams.cli.options import As, Reason


def new(
    file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write to this file, with mode 0600. Default: print.")
    ] = None,
    kek: Kek = None,
    reason: Reason = None,
    name: As = None,
) -> None:
    """Make the encryption secrets of a deployment: an index secret and the first key-encryption key.

    Keep copies of them apart from Kafka and its backups: what is encrypted cannot be read without them. An existing
    file is not overwritten. With --file an audit event in the log names the key-encryption key. See docs/encryption.md.

    Exit codes:

    * 0: made.
    * 2: the file exists or cannot be written, the id is unusable, or with --file a wrong setting.

    Example:

    ```console
    $ fhirline keys new --file /run/secrets/encryption
    ```
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.keys.secrets_file import create, new_id, new_secrets

    made = new_secrets(kek or new_id())
    if file is None:
        print(made.text, end="")
        return
    configure_logging(load_settings())
    create(file, made, lambda: audit("encryption secrets made", by="keys", name=name, kek=made.current, reason=reason))
    print(f"written: {file}, with the key-encryption key {made.current}. Copy it to two places apart from Kafka.")
