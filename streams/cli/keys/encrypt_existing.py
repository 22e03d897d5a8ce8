"""``fhirline keys encrypt-existing``: encryption of what was written before encryption was on."""

from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.exit_codes import INCOMPLETE
from fhirline.streams.cli.errors import failing_with
from fhirline.streams.cli.options import As, DryRun, Reason, Yes
from fhirline.streams.cli.output import confirm, print_table, progress, require_answer
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.streams.kafka.records import RecordPosition
    from fhirline.streams.operate.keys.existing.run import Done, Migration
    from fhirline.streams.operate.keys.existing.survey import Partition

AGAIN = "what is done is kept"
NAMED = 20
"""Positions that are named at most."""
KEPT = "This embedded broker cannot delete records: copies are written, and what is plain stays until it ends."


def encrypt_existing(
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Remove nothing. Print what can be removed; the same command without --keep does it later."
        ),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="Records per second at most. The workers map each copied event once more."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for workers that make no progress, before the command ends.")
    ] = 120.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = None,
    name: As = None,
) -> None:
    """Encrypt raw events, dead letters and state that are stored plain, and remove the plain records.

    Needs `FHIRLINE_ENCRYPTION`, with which gateways, enrichments and workers must run already; they go on running. An
    encrypted copy of each record is written behind the last record of the same partition. Counts and digests of records
    and copies are compared, and only then is removed what was copied. The workers map each copy as a repeat of its
    event. Killed or interrupted, run the command again: it finds in the topics what is done. Redrive no dead letters
    meanwhile. Records of other producers that still write plain are encrypted up to where they are now.

    Exit codes:

    * 0: done; with --keep, all but the removal.
    * 1: not finished: the workers have not read the copies, Kafka failed, or a process wrote a plain record after the
      command had begun. Run it again. Also where the answer was no.
    * 2: a wrong argument or setting, a process that still writes plain records, a missing privilege, or the cluster
      does not answer.

    Examples:

    ```console
    $ fhirline keys encrypt-existing --dry-run
    $ fhirline keys encrypt-existing --rate 500 --yes
    ```
    """
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.keys.existing.deletion import can_delete
    from fhirline.streams.operate.keys.existing.run import Migration, StillPlain
    from fhirline.streams.step5_publish.publish import PublishFailed

    settings = load_settings()
    configure_logging(settings)
    if not dry_run:
        require_answer(yes)
    unfinished: dict[type[BaseException], int] = dict.fromkeys(
        (KafkaAccessError, PublishFailed, StillPlain), INCOMPLETE
    )
    with Migration(settings, (), rate) as migration:
        require_topics(settings, "encrypt-existing")
        deletes = can_delete(settings)
        with progress() as reporter:
            reporter.begin("reading")
            migration.survey()
            entries, unknown = migration.plain_entries()
        _show(migration, entries)
        _name(unknown)
        if not any(entries.values()) and not migration.to_copy:
            print("Nothing to encrypt.")
            return
        if dry_run:
            print("Nothing was done." if deletes else f"Nothing was done. {KEPT}")
            return
        if not (keep or deletes):
            raise ConfigurationError(f"--keep: required here. {KEPT}")
        confirm(f"Encrypt this{'' if keep else ', and remove the plain records'}?", yes)
        audit("existing records encrypted", by="keys encrypt-existing", name=name, keep=str(keep).lower(),
              reason=reason)  # fmt: skip
        with failing_with("keys encrypt-existing", unfinished, AGAIN), progress() as reporter:
            done = migration.run(keep, wait, reporter.show)
    _report(done, keep, deletes)


def _show(migration: "Migration", entries: dict[str, int]) -> None:
    topics: dict[str, list[Partition]] = {}
    for place, partition in (migration.raw | migration.letters).items():
        topics.setdefault(place.topic, []).append(partition)
    rows = [
        (
            topic,
            sum(item.due for item in found),
            sum(item.uncopied for item in found),
            sum(item.size for item in found),
        )
        for topic, found in topics.items()
    ]
    print_table(
        ("topic", "plain", "to copy", "bytes"),
        [*rows, *((topic, count, count, "-") for topic, count in entries.items())],
    )


def _name(unknown: "list[RecordPosition]") -> None:
    """Name records on topics of state that another program wrote in clear."""
    if unknown:
        more = f", and {len(unknown) - NAMED:,} more" if len(unknown) > NAMED else ""
        print(f"state             {counted(len(unknown), 'record')} in clear that fhirline did not write, which it "
              f"leaves as they are: {', '.join(map(str, unknown[:NAMED]))}{more}")  # fmt: skip


def _report(done: "Done", keep: bool, deletes: bool) -> None:
    checked = sorted((done.raw | done.letters).items())
    rows = [
        (str(place), sums.records.records, sums.copies.records, sums.left_out, sums.copies.shown)
        for place, sums in checked
    ]
    print_table(("partition", "records", "copies", "of erased patients", "SHA-256 of both"), rows)
    print(f"state             {counted(done.entries, 'entry', 'entries')} encrypted")
    _name(done.unknown)
    print(f"dead letters      {counted(done.marks, 'status', 'statuses')} moved")
    if not keep:
        print(f"removed           {counted(len(done.removed), 'partition')}: everything before the copied records' end")
        return
    if not deletes:
        print(KEPT)
        return
    print("To be removed, by this command without --keep or by kafka-delete-records.sh:")
    print_table(
        ("partition", "before offset"), [(str(place), offset) for place, offset in sorted(done.removed.items())]
    )
