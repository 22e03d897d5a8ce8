"""``fhirline dead-letters list``: dead letters, counted or one by one."""

from typing import Annotated

import typer

from fhirline.streams.cli.dead_letters.filter import FilterOptions, require_no_event_filter
from fhirline.streams.cli.dead_letters.session import board_of, loaded_settings, read
from fhirline.streams.cli.deliver_waiting import waiting
from fhirline.streams.cli.options import AsJson
from fhirline.streams.cli.output import print_json, print_table


def list_(
    chosen: FilterOptions,
    each: Annotated[bool, typer.Option("--each", help="Show each event in a row of its own, with its id.")] = False,
    delivery: Annotated[
        bool,
        typer.Option("--delivery", help="List what waits for the FHIR server instead."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Count the events that could not be mapped, by vendor, error code, path and mapping version.

    Paths are grouped without the indexes of lists. A status is open, redriven (sent again and not mapped yet),
    failed-again or done. A filter that is given twice accepts either value; different filters must all hold.

    With --delivery, list the Bundles of `delivery.dead-letter` that still wait, and those behind them; only --code and
    --json go with it.

    Exit codes:

    * 0: listed.
    * 2: a wrong argument or setting, or the cluster does not answer.

    Example:

    ```console
    $ fhirline dead-letters list --each --vendor mediquo --code resource-invalid
    ```
    """
    from fhirline.streams.operate.dead_letters.selection import grouped
    from fhirline.streams.operate.dead_letters.view import (
        CASE_COLUMNS,
        GROUP_COLUMNS,
        case_document,
        case_row,
        group_document,
        group_row,
    )

    wanted = chosen.filter()
    if delivery:
        require_no_event_filter(chosen, each)
        return waiting(as_json, chosen.code)
    with board_of(loaded_settings(), wanted) as board:
        found = [*filter(wanted, read(board, wanted))]
    if each and as_json:
        print_json([case_document(case) for case in found])
    elif each:
        print_table(CASE_COLUMNS, map(case_row, found))
    elif as_json:
        print_json([group_document(group) for group in grouped(found)])
    else:
        print_table(GROUP_COLUMNS, map(group_row, grouped(found)))
