"""``fhirline replay --list`` and ``--discard``: the runs whose folders exist."""

from typing import TYPE_CHECKING

from fhirline.streams.cli.output import confirm, print_table

if TYPE_CHECKING:
    from fhirline.config.settings import Settings

COLUMNS = ("run", "begun", "selection", "state", "size", "mapping, tables and settings")


def show(settings: "Settings") -> None:
    """Print the runs, the oldest first. Raises ConfigurationError where a table of today cannot be read."""
    from rich.filesize import decimal

    from fhirline.streams.operate.replay import folders
    from fhirline.streams.operate.replay.inputs import inputs_of

    rows = []
    for run in folders.kept(settings.replay_dir, inputs_of(settings)):
        begun, selection, inputs = "", "", "unknown"
        if run.plan is not None:
            begun, selection = run.plan.begun, run.plan.selection.describe()
            inputs = f"changed: {', '.join(run.differing)}" if run.differing else "unchanged"
        rows.append((run.id, begun, selection, run.state, decimal(run.size), inputs))
    print_table(COLUMNS, rows)


def discard(settings: "Settings", id: str, yes: bool, name: str | None) -> None:
    """Remove a run's folder, after asking. Raises ConfigurationError where there is none, or it is in use.

    ``name``: of the person who discards it, for the audit event.
    """
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.operate.replay import folders

    folders.existing(settings.replay_dir, "--discard", id)
    confirm(f"Remove run {id}? What it has mapped is not kept.", yes)
    audit("replay discarded", by="replay", name=name, run=id)
    folders.discard(settings.replay_dir, id)
    print(f"Removed: run {id}.")
