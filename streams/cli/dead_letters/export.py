"""``fhirline dead-letters export``: dead letters as files."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhirline.streams.cli.dead_letters.filter import FilterOptions
from fhirline.streams.cli.dead_letters.session import board_of, loaded_settings, read
from fhirline.streams.cli.options import As, Reason, Reveal, reason_to_reveal
from fhirline.streams.observe.terminal import counted

if TYPE_CHECKING:
    from fhirline.streams.kafka.records import ConsumerRecord
    from fhirline.streams.operate.dead_letters.cases import Case


class Form(StrEnum):
    """The form of an export."""

    jsonl = "jsonl"
    files = "files"


def export(
    chosen: FilterOptions,
    to: Annotated[Path, typer.Option(help="The file (jsonl) or folder (files) to write, with mode 0600.")],
    form: Annotated[
        Form, typer.Option("--format", help="jsonl: one event per line. files: ID.json and, revealed, ID.payload.")
    ] = Form.jsonl,
    reveal: Reveal = False,
    reason: Reason = None,
    name: As = None,
) -> None:
    """Write metadata and failing paths to files that only their owner can read. With --reveal, also payloads.

    A filter that is given twice accepts either value; different filters must all hold.

    Exit codes:

    * 0: written.
    * 2: a wrong argument or setting, or the cluster does not answer.

    Example:

    ```console
    $ fhirline dead-letters export --to letters.jsonl --since 2024-06-01T00:00:00Z
    ```
    """
    from fhirline.streams.operate.dead_letters.board import records
    from fhirline.streams.operate.dead_letters.export import to_folder, to_lines
    from fhirline.streams.operate.dead_letters.view import audit_reveal

    stated = reason_to_reveal(reveal, reason)
    wanted = chosen.filter()
    settings = loaded_settings()
    with board_of(settings, wanted) as board:
        found = [*filter(wanted, read(board, wanted))]
        written: Iterable[tuple[Case, ConsumerRecord | None]] = ((case, None) for case in found)
        if reveal:
            audit_reveal(found, "export", stated, name)
            lasts = {case.last.position: case for case in found}
            written = ((lasts[record.position], record) for record in records(settings, lasts.keys()))
        count = (to_lines if form is Form.jsonl else to_folder)(to, written)
    print(f"{counted(count, 'event')} written to {to}")
