"""``fhirline keys list``: the key-encryption keys and how many data keys each wraps."""

from contextlib import closing

from fhirline.streams.cli.errors import warn
from fhirline.streams.cli.keys.session import required_secrets
from fhirline.streams.cli.options import AsJson
from fhirline.streams.cli.output import counting, print_json, print_table, progress
from fhirline.streams.observe.terminal import counted


def list_(as_json: AsJson = False) -> None:
    """List the key-encryption keys, and how many data keys each wraps.

    A key-encryption key wraps new data keys (`wraps`), only unwraps older ones (`unwraps`), is missing here although
    data keys are wrapped by it (`missing`), or is here with another value than the one that wrapped them (`wrong`: one
    data key of each is unwrapped). Events of missing and wrong ones cannot be read.

    Exit codes:

    * 0: listed.
    * 1: a key-encryption key is missing, or wrong.
    * 2: a wrong setting, a missing privilege, or the cluster does not answer.

    Example:

    ```console
    $ fhirline keys list
    ```
    """
    import typer

    from fhirline.config.exit_codes import PROBLEM_FOUND
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.operate.keys.data_keys import DataKeys

    settings = load_settings()
    secrets = required_secrets(settings)
    require_topics(settings)
    with progress() as reporter, closing(DataKeys(settings, secrets, counting(reporter))) as keys:
        found = keys.count()
    wrong = found.wrong(secrets)
    used = {*found.living, *found.unusable}
    rows = [
        (id, "wrong" if id in wrong else _use(id, secrets.current, secrets.keks), found.living[id], found.unusable[id])
        for id in (*secrets.keks, *sorted(used - secrets.keks.keys()))
    ]
    if as_json:
        names = ("kek", "use", "living", "destroyed")
        listed = [dict(zip(names, row, strict=True)) for row in rows]
        print_json({"keks": listed, "destroyed": found.destroyed, "erased": found.erased})
    else:
        print_table(("key-encryption key", "use", "living data keys", "destroyed, not removed"), rows)
        print(f"{counted(found.destroyed, 'data key')} destroyed, {counted(found.erased, 'index', 'indexes')} erased")
    for id in wrong:
        warn("keys list", f"the secret KEK {id} does not open keys that it wrapped: restore its value from its backup")
    if wrong or set(found.living) - secrets.keks.keys():
        raise typer.Exit(PROBLEM_FOUND)


def _use(id: str, current: str, held: dict[str, bytes]) -> str:
    return "wraps" if id == current else "unwraps" if id in held else "missing"
