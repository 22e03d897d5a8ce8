"""``fhirline dead-letters show``: one dead letter."""

from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import NOT_FOUND
from fhirline.streams.cli.dead_letters.session import board_of, loaded_settings, read
from fhirline.streams.cli.errors import CommandFailed
from fhirline.streams.cli.options import As, AsJson, Reason, Reveal, reason_to_reveal
from fhirline.streams.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fhirline.streams.kafka.records import ConsumerRecord
    from fhirline.streams.operate.dead_letters.cases import Case


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID|EVENT_KEY",
            help="The event's id, topic/partition/offset, as `list --each` shows it; or its event key (64 hex digits).",
        ),
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
    * 2: a wrong argument or setting, an event key of several dead letters, or the cluster does not answer.

    Examples:

    ```console
    $ fhirline dead-letters show raw.mediquo/3/1742
    $ fhirline dead-letters show raw.mediquo/3/1742 --reveal --reason "ticket 12"
    ```
    """
    from fhirline.streams.observe.terminal import printable
    from fhirline.streams.operate.dead_letters.board import records
    from fhirline.streams.operate.dead_letters.selection import Filter
    from fhirline.streams.operate.dead_letters.view import (
        audit_reveal,
        case_document,
        case_lines,
        payload_document,
        payload_text,
    )
    from fhirline.streams.operate.trace.kind import kind_of

    stated = reason_to_reveal(reveal, reason)
    if kind_of(what) not in ("event", "raw record"):
        raise ConfigurationError("ID|EVENT_KEY: neither raw.VENDOR/PARTITION/OFFSET nor 64 hex digits in lower case")
    settings = loaded_settings()
    with board_of(settings, Filter()) as board:
        case = _case(what, read(board))
        record: ConsumerRecord | None = None
        if reveal:
            audit_reveal([case], "show", stated, name)
            record = next(records(settings, [case.last.position]), None)
    if as_json:
        print_json(case_document(case) | (payload_document(record) if record else {}))
        return
    for line in case_lines(case, "below") if record else case_lines(case):
        print(line)
    if record:
        print(f"{'key':16}{printable((record.key or b'').decode('utf-8', 'replace'))}\n\n{payload_text(record.value)}")


def _case(what: str, cases: "Sequence[Case]") -> "Case":
    """Find the case by its id or event key. Raises ConfigurationError where several have the key."""
    from fhirline.streams.observe.terminal import printable
    from fhirline.streams.operate.trace.kind import kind_of

    if kind_of(what) == "event":
        found = [case for case in cases if any(letter.event_key == what for letter in case.letters)]
    else:
        found = [case for case in cases if case.id == what]
    if len(found) > 1:
        ids = ", ".join(case.id for case in found)
        raise ConfigurationError(f"ID|EVENT_KEY: {len(found)} events have this event key; give the id of one: {ids}")
    if not found:
        raise CommandFailed("dead-letters", f"no letter {printable(what)}; `list --each` shows the ids", NOT_FOUND)
    return found[0]
