"""``fhirline keys rotate``: a new key-encryption key."""

from typing import Annotated

import typer

from fhirline.streams.cli.keys.session import Kek, SecretsFile, secrets_path
from fhirline.streams.cli.options import As, DryRun, Reason, Yes
from fhirline.streams.cli.output import confirm


def rotate(
    file: SecretsFile = None,
    kek: Kek = None,
    activate: Annotated[
        str | None, typer.Option("--activate", metavar="ID", help="Let this key-encryption key wrap new data keys.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = None,
    name: As = None,
) -> None:
    """Add a key-encryption key to the file of secrets, or with --activate let it wrap new data keys.

    In two steps, so that no process meets a data key that it cannot unwrap: add the key, give the file to every process
    that reads events (workers, enrichments, commands) and restart them; then activate it, make the gateways' file anew,
    and restart gateways and enrichments. After that, `fhirline keys rewrap`.

    Exit codes:

    * 0: done.
    * 1: the answer was no.
    * 2: a wrong argument, or a file that cannot be read or written.

    Examples:

    ```console
    $ fhirline keys rotate --kek 2026-11
    $ fhirline keys rotate --activate 2026-11
    ```
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.keys import secrets_file

    settings = load_settings()
    configure_logging(settings)
    path = secrets_path(file, settings)
    held = secrets_file.read(path)
    id = activate or kek or secrets_file.new_id(held.keks)
    (secrets_file.activated if activate else secrets_file.with_key)(held, id)  # raises before anything is audited
    step = f"let {id} wrap new data keys instead of {held.current}" if activate else f"add the key-encryption key {id}"
    if dry_run:
        print(f"would {step}. Nothing was done.")
        return
    confirm(f"In {path}: {step}?", yes)
    audit("key-encryption key activated" if activate else "key-encryption key added", by="keys", name=name, kek=id,
          reason=reason)  # fmt: skip
    if activate:
        secrets_file.activate(path, id)
        print(
            f"{id} wraps new data keys. Make the file of gateways and ingest anew (docs/encryption.md), restart them "
            "and enrichments; then: keys rewrap"
        )
    else:
        secrets_file.add_key(path, id)
        print(
            f"{id} is added. Give the file to workers, enrichments and whatever else reads events, restart them; then: "
            f"keys rotate --activate {id}"
        )
