"""``fhirline keys give-up``: giving up data keys that are lost."""

from contextlib import closing
from datetime import UTC
from typing import Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.errors import CommandFailed, failing_with
from fhirline.streams.cli.keys.session import required_secrets
from fhirline.streams.cli.options import As, DryRun, Yes
from fhirline.streams.cli.output import confirm, counting, print_table, progress, require_answer
from fhirline.streams.observe.terminal import counted


def give_up(
    data_key: Annotated[
        str | None,
        typer.Argument(
            metavar="RAW|INDEX/NUMBER",
            help="The data key: by the position of a record that it encrypts (topic/partition/offset), or the key of "
            "that record, /, and its header key-id.",
        ),
    ] = None,
    kek: Annotated[
        str | None, typer.Option(metavar="ID", help="All data keys that this key-encryption key wraps, which is lost.")
    ] = None,
    restarted: Annotated[
        bool,
        typer.Option(
            "--restarted",
            help="Gateways and enrichments were restarted since the key was lost, so that none uses it any more.",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The reason, for the audit event. Required, except with --dry-run."),
    ] = None,
    name: As = None,
) -> None:
    """Give up a data key that is lost: the records that it encrypts are passed over from then on.

    Use it for a worker that ends again and again with `normalizer.keys/3 does not have the data key …`, where no backup
    of that topic has the key. The worker's log line names the event's position, to be given here. Restore the topic
    from its backup instead, if there is one: restoring the key later does not undo this command.

    It first counts the records that become unreadable, by topic, and the entries of state. It then writes the marker of
    an erased patient's key. The patient is not erased: later events of the patient have other keys, and resources that
    are published stay. A data key that can be read is never given up, nor one that a gateway may still use.

    Exit codes:

    * 0: given up.
    * 1: no record is encrypted with it, a gateway may still use it, Kafka did not take the marker, or the answer was
      no.
    * 2: a wrong argument or setting, a data key that is not lost, a missing privilege, or the cluster does not answer.

    Examples:

    ```console
    $ fhirline keys give-up raw.mediquo/3/1742 --dry-run
    $ fhirline keys give-up raw.mediquo/3/1742 --reason "disk of broker 2, no backup"
    ```
    """
    from fhirline.config.exit_codes import INCOMPLETE
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.kafka.encryption.key_ring import KeyRing
    from fhirline.streams.kafka.records import RecordPosition
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.keys import give_up as lost_keys
    from fhirline.streams.step1_receive.raw_record import now
    from fhirline.streams.step5_publish.publish import PublishFailed

    settings = load_settings()
    configure_logging(settings)
    if (data_key is None) == (kek is None):
        raise ConfigurationError("RAW|INDEX/NUMBER: name one data key, or a key-encryption key with --kek")
    if not dry_run:
        if not (reason or "").strip():
            raise ConfigurationError("--reason: required, for the audit event: state why nobody can restore the key")
        require_answer(yes)
    secrets = required_secrets(settings)
    require_topics(settings, None if dry_run else "operator")
    with progress() as reporter, closing(KeyRing(settings, secrets, counting(reporter), any_index=True)) as ring:
        if data_key is not None:
            if (position := RecordPosition.parse(data_key)) is not None:
                data_key = lost_keys.name_at(settings, position)
                print(f"data key          {data_key}")
            lost = lost_keys.named(settings, secrets, ring, data_key)
        else:
            lost = lost_keys.wrapped_with(settings, secrets, ring, kek or "")
    with progress() as reporter:
        found = lost_keys.consequences(settings, lost, counting(reporter))
    rows = [(topic, item.records, item.first, item.last) for topic, item in sorted(found.topics.items())]
    print_table(("topic", "become unreadable", "first", "last"), rows)
    if not rows and kek is None:
        raise CommandFailed("keys give-up", "no record is encrypted with this data key: nothing was done", INCOMPLETE)
    if not restarted and (until := found.in_use_until(settings)):
        over = until.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        raise CommandFailed(
            "keys give-up",
            f"a gateway may use this key until {over}, and what it encrypts until then would be lost, too: run this "
            "after that, or restart gateways, enrichments and ingest, and give --restarted",
            INCOMPLETE,
        )
    if dry_run:
        print(f"{counted(len(lost), 'data key')} would be given up. Nothing was done.")
        return
    confirm(f"Give up {counted(len(lost), 'data key')}? These records can never be read again.", yes)
    number = data_key.partition("/")[2] if data_key else None
    about = {"data_key": number, "kek": kek, "count": str(len(lost))}
    given = {field: value for field, value in about.items() if value is not None}
    audit("data keys given up", by="keys", name=name, reason=(reason or "").strip(), **given)
    with failing_with("keys give-up", {PublishFailed: INCOMPLETE}, "run this again"):
        lost_keys.give_up(settings, lost, now().text)
    print(
        f"{counted(len(lost), 'data key')} given up. Start the workers, ask the vendor for an export of what is lost, "
        "and `fhirline ingest` it."
    )
