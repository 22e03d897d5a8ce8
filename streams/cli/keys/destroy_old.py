"""``fhirline keys destroy-old``: removal of old key-encryption keys."""

from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.keys.session import SecretsFile, secrets_path
from fhirline.streams.cli.options import As, DryRun, Reason, Yes
from fhirline.streams.cli.output import confirm, counting, progress
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.streams.operate.keys.data_keys import History

UNUSED_HOURS = 24.0


def destroy_old(
    file: SecretsFile = None,
    kek: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Remove only this one; may be given twice. Default: see above."),
    ] = None,
    unused_for: Annotated[
        float, typer.Option(min=0, metavar="HOURS", help="Refuse where one has wrapped a data key within these hours.")
    ] = UNUSED_HOURS,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = None,
    name: As = None,
) -> None:
    """Remove old key-encryption keys from the file of secrets, once no living data key needs them.

    A key-encryption key is old if it has wrapped a data key and is not the first one of the file. One that has wrapped
    none may have been added and not activated yet; name it with --kek to remove it.

    The removal completes earlier erasures: destroyed data keys that may still lie in Kafka's logs, mirrors or backups
    can no longer be unwrapped. Run `keys rotate` and `keys rewrap` first. Remove the key-encryption keys from every
    copy of the file, backups included. The command prints how many destroyed data keys the removal concerns, and what
    a killed run before it has done. It also removes a file with secrets that such a run has left beside the file.

    Exit codes:

    * 0: removed, or there was none.
    * 1: an old one wraps living data keys, has wrapped one within --unused-for, may be new, or has a wrong value in the
      file; or the answer was no.
    * 2: a wrong argument or setting, a missing privilege, or the cluster does not answer.

    Example:

    ```console
    $ fhirline keys destroy-old --dry-run
    ```
    """
    from fhirline.config.exit_codes import INCOMPLETE
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.keys import secrets_file
    from fhirline.streams.operate.keys.data_keys import DataKeys, hours_since

    settings = load_settings()
    configure_logging(settings)
    path = secrets_path(file, settings)
    secrets = secrets_file.read(path)
    require_topics(settings)
    if wrong := set(kek or ()) - secrets.keks.keys() | {secrets.current}.intersection(kek or ()):
        raise ConfigurationError(f"--kek {min(wrong)}: not in {path}, or the first, which wraps new data keys")
    with progress() as reporter, closing(DataKeys(settings, secrets, counting(reporter))) as keys:
        found, history = keys.count(), keys.history()
    if wrong_values := found.wrong(secrets):
        raise CommandFailed(
            "keys destroy-old",
            f"the secret KEK {wrong_values[0]} does not open keys that it wrapped: restore its value in {path} first",
            INCOMPLETE,
        )
    unfinished = secrets_file.left_over(path)
    _print_earlier(path, unfinished, [id for id in history.last if id not in secrets.keks and not found.living[id]])
    others = secrets.keks.keys() - {secrets.current}
    old = set(kek) if kek else others & history.last.keys()
    if new := set() if kek else others - old:
        print(
            f"left: {', '.join(sorted(new))}. Nothing in normalizer.keys shows that it has wrapped a data key: it may "
            "be new, or compaction has removed what it had wrapped. Remove it with --kek."
        )
    if not old and not unfinished:
        print(f"{path}: nothing was done, since nothing shows an older key-encryption key than {secrets.current}.")
        if new:
            raise typer.Exit(INCOMPLETE)
        return
    last = max((history.last[id] for id in old & history.last.keys()), default=None)
    if needed := sum(found.living[id] for id in old):
        raise CommandFailed(
            "keys destroy-old",
            f"{counted(needed, 'living data key')} would be lost: run `fhirline keys rewrap` first",
            INCOMPLETE,
        )
    if last is not None and hours_since(last) < unused_for:
        raise CommandFailed(
            "keys destroy-old",
            f"a data key was wrapped by one of {', '.join(sorted(old))} at {last.text}, within {unused_for:g} hours: a "
            "gateway may still have the older file. Restart them all, and wait, or set --unused-for HOURS",
            INCOMPLETE,
        )
    listed, beside = ", ".join(sorted(old)), ", ".join(item.name for item in unfinished)
    completes = _completes(history, old, secrets.keks.keys() - old) if old else []
    if dry_run:
        print(f"would be removed: {_both(listed, beside)}.")
        for line in completes:
            print(f"That {line}")
        print("Nothing was done.")
        return
    lost = " What only these key-encryption keys unwrap cannot be read again." if old else ""
    confirm(f"In {path}, remove {_both(listed, beside)}?{lost}", yes)
    about = {field: value for field, value in (("kek", listed), ("files", beside)) if value}
    audit("key-encryption keys destroyed" if old else "unfinished files of secrets removed", by="keys", name=name,
          reason=reason, **about)  # fmt: skip
    removed = secrets_file.remove_left_over(path) if unfinished else []
    if old:
        secrets_file.remove(path, old)
        print(f"removed: {listed}. Remove them from every copy of the file, and restart what has read it.")
    if removed:
        print(f"removed beside it: {', '.join(item.name for item in removed)}")
    for line in completes:
        print(f"That {line}")
    if new:
        raise typer.Exit(INCOMPLETE)


def _both(listed: str, beside: str) -> str:
    """Name key-encryption keys and files beside the file of secrets, either of which may be empty."""
    return " and ".join(filter(None, (listed, beside and f"beside the file {beside}")))


def _print_earlier(path: Path, unfinished: Sequence[Path], gone: Sequence[str]) -> None:
    """Print what an earlier run has begun, and which key-encryption keys are gone, removed by a run or lost."""
    if unfinished:
        print(
            f"continues: an earlier command was interrupted while it changed {path}. It left "
            f"{counted(len(unfinished), 'file')} with secrets beside it, to be removed as well: "
            f"{', '.join(item.name for item in unfinished)}"
        )
    if gone:
        print(
            f"not in the file any more: {', '.join(sorted(gone))}. No living data key needs them; they must not be in "
            "any other copy of the file either."
        )


def _completes(history: "History", old: Collection[str], left: Collection[str]) -> list[str]:
    """Say which erasures the removal completes."""
    complete, open_ = history.completed(old, left)
    lines = [
        f"completes the erasures of {counted(complete, 'destroyed data key')}, as far as normalizer.keys still has "
        "them: nothing in the file unwraps them any more."
    ]
    if open_:
        also = {id for keks in history.destroyed if keks.intersection(old) for id in keks.intersection(left)}
        lines.append(
            f"does not complete those of {counted(open_, 'destroyed data key')}, which {', '.join(sorted(also))} "
            "unwraps, too: they are complete when that is destroyed as well."
        )
    return lines
