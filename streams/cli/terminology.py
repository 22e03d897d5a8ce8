"""``fhirline terminology``: the words that no code table has a row for, as rows to review."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import INCOMPLETE
from fhirline.config.settings import PREFIX, Settings, load_settings
from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.mappers.registry import VENDORS as KNOWN
from fhirline.streams.cli.errors import warn
from fhirline.streams.cli.help import VENDORS, group
from fhirline.streams.cli.options import As, Reason, Tenant, instant, known_vendors, slug
from fhirline.streams.cli.output import counting, progress
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.mappers.pipeline.envelope import Envelope
    from fhirline.streams.operate.terminology.missing import Missing


def register(app: typer.Typer) -> None:
    commands = group(app, "terminology", "Draft the rows that the code tables lack.", VENDORS)
    commands.command("draft")(draft)

    @commands.callback()
    def keep_names() -> None:
        """Keep the command's name, which Typer drops where a command is registered alone without a callback."""


def draft(
    vendor: Annotated[str, typer.Argument(help=f"One of {', '.join(KNOWN)}.")],
    files: Annotated[list[str] | None, typer.Argument(help="JSON files; -: standard input.")] = None,
    ndjson: Annotated[bool, typer.Option("--ndjson", help="Read one body per line of the files.")] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Read the raw topic instead, from this RFC 3339 instant on (to the second). Needs --reason.",
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write a file per table here. Default: standard output.")
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    event: Annotated[str | None, typer.Option(help="Event of the webhooks' route (Azodha), for files.")] = None,
    reason: Reason = None,
    name: As = None,
) -> None:
    """Draft rows for the words of events that no code table has a row for, the most frequent first.

    Each table becomes a file in the form of `FHIRLINE_TERMINOLOGY_DIR`. What a reviewer has to decide is `TODO`, and no
    command loads a table with a `TODO`. Only words that read like a term are written; prose, numbers and addresses are
    counted. Reading the raw topic shows words of stored events, and writes an audit event.

    Exit codes:

    * 0: drafted, or no word lacks a row.
    * 1: a body could not be read; the others are drafted.
    * 2: a wrong argument or setting, a file that exists, or the cluster does not answer.

    Examples:

    ```console
    $ fhirline terminology draft altibbi streams/demo/samples/altibbi-recommendation.json
    $ fhirline terminology draft mediquo --since 2026-01-01T00:00:00Z --reason "ticket 12" --to drafts
    ```
    """
    from fhirline.mappers.pipeline.factory import build_normalizer
    from fhirline.mappers.pipeline.limits import TooComplex
    from fhirline.mappers.pipeline.normalize import InMemoryState
    from fhirline.streams.operate.terminology.draft import drafts
    from fhirline.streams.operate.terminology.missing import Missing

    known_vendors("VENDOR", [vendor], KNOWN)
    slug("--tenant", tenant)
    if bool(files) == bool(since):
        raise ConfigurationError("FILE…: name files to read, or --since to read the raw topic")
    settings = load_settings()
    _require_folder(to, settings)
    normalize = build_normalizer(settings.model_copy(update={"validation": "off"}))
    missing, unread = Missing(normalize.terminology), 0
    if since:
        read = _from_topic(settings, vendor, since, reason, name)
    else:
        read = _from_files(vendor, files or [], ndjson, tenant, event)
    for envelope in read:
        if envelope is None:
            unread += 1
            continue
        try:
            missing.add(normalize(envelope, InMemoryState()), envelope.body)
        except TooComplex as error:
            warn("terminology", f"event {envelope.event_key} is not counted: {error} (too-complex)")
            unread += 1
    source = f"{counted(missing.events, 'event')} of {vendor}" + (f" since {since}" if since else "")
    _write(drafts(missing.words(), f"draft-of-{vendor}", source), to)
    _summarize(missing, source)
    if unread:
        raise typer.Exit(INCOMPLETE)


def _from_files(
    vendor: str, files: list[str], ndjson: bool, tenant: str, event: str | None
) -> "Iterator[Envelope | None]":
    """Open each body; None for one that cannot be read, which is reported."""
    from fhirline.mappers.pipeline.envelope import UnreadableBody
    from fhirline.mappers.registry import open_without_receipt
    from fhirline.streams.cli.bodies import bodies, hint_of_lines

    for place, body in bodies(files, ndjson):
        try:
            yield open_without_receipt(vendor, tenant, body, event)
        except UnreadableBody as error:
            warn("terminology", f"{place}: {error} ({error.code}){'' if ndjson else hint_of_lines(body)}")
            yield None


def _from_topic(
    settings: Settings, vendor: str, since: str, reason: str | None, name: str | None
) -> "Iterator[Envelope | None]":
    """Open each raw record since a time, with an audit line before the first."""
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.terminology import raw

    at = instant("--since", since)
    stated = (reason or "").strip()
    if not stated:
        raise ConfigurationError("--since: shows words of stored events; state why with --reason, for the audit event")
    assert at is not None
    configure_logging(settings)
    audit("words of events shown", by="terminology draft", name=name, reason=stated, vendor=vendor, since=since)
    with progress() as reporter:
        yield from raw.envelopes(raw.since(settings, vendor, max(0, at.milliseconds), counting(reporter)))


def _require_folder(to: Path | None, settings: Settings) -> None:
    """Raise ConfigurationError where drafts would be loaded: in the deployment's own folder of tables."""
    own = settings.terminology_dir
    if to is not None and own is not None and to.resolve() == own.resolve():
        raise ConfigurationError(
            f"--to: {to} is {PREFIX}TERMINOLOGY_DIR, where a draft stops each process that starts; name another folder"
        )


def _write(found: dict[str, str], to: Path | None) -> None:
    """Print the files, or write them to a folder, readable to their owner only."""
    if to is None:
        print("---\n".join(f"# {file}\n{text}" for file, text in found.items()), end="")
        return
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        if existing := [file for file in found if (to / file).exists()]:
            raise ConfigurationError(f"--to: {to / existing[0]} exists; name another folder")
        for file, text in found.items():
            path = to / file
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(f"--to: cannot write {to}: {error.strerror}") from None


def _summarize(missing: "Missing", source: str) -> None:
    """Report on standard error how many words were drafted, and how many are not shown."""
    words = missing.words()
    tables = len({word.table for word in words})
    text = f"{source}: {counted(len(words), 'word')} without a row in {counted(tables, 'table')}"
    if missing.hidden:
        hidden = ", ".join(f"{table} {count:,}" for table, count in sorted(missing.hidden.items()))
        text += f"; not shown, because they do not read like a term: {hidden}"
    warn("terminology", text)
