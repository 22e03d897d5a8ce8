"""``fhirline dead-letters show``."""

from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.exit_codes import NOT_FOUND
from fhirline.streams.cli.dead_letters.filter import FilterOptions
from fhirline.streams.cli.dead_letters.session import board_of, loaded_settings, read
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.options import As, AsJson, Reason, Reveal, reason_to_reveal
from fhirline.streams.cli.output import print_json

if TYPE_CHECKING:
    from fhirline.streams.kafka.records import ConsumerRecord


def show(
    id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the event, topic/partition/offset, as `list --each` shows it.")
    ],
    reveal: Reveal = False,
    reason: Reason = None,
    name: As = None,
    as_json: AsJson = False,
) -> None:
    """Show one event's metadata and failing paths. With --reveal, also its key and payload.

    Exit codes:

    * 0: shown.
    * 1: there is no such dead letter, or no longer.
    * 2: a wrong argument or setting, or the cluster does not answer.

    Examples:

    ```console
    $ fhirline dead-letters show raw.mediquo/3/1742
    $ fhirline dead-letters show raw.mediquo/3/1742 --reveal --reason "ticket 12"
    ```
    """
    from fhirline.streams.observe.terminal import printable
    from fhirline.streams.operate.dead_letters.board import records
    from fhirline.streams.operate.dead_letters.view import (
        case_document,
        case_lines,
        payload_document,
        payload_text,
        revealed,
    )

    stated = reason_to_reveal(reveal, reason)
    wanted = FilterOptions(id=[id]).filter()
    settings = loaded_settings()
    with board_of(settings, wanted) as board:
        case = next(filter(wanted, read(board)), None)
        if case is None:
            raise CommandFailed("dead-letters", f"no letter {printable(id)}; `list --each` shows the ids", NOT_FOUND)
        record: ConsumerRecord | None = None
        if reveal:
            revealed([case], "show", stated, name)
            record = next(records(settings, [case.last.position]), None)
    if as_json:
        print_json(case_document(case) | (payload_document(record) if record else {}))
        return
    for line in case_lines(case):
        print(line)
    if record:
        print(f"{'key':16}{printable((record.key or b'').decode('utf-8', 'replace'))}\n\n{payload_text(record.value)}")
