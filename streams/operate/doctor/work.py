"""Checks of the consumer groups and the dead letters."""

from collections.abc import Iterator

from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.doctor.finding import Finding, ok, warning
from fhirline.streams.operate.status.summary import Members, Status

STABLE = "stable"


def group(found: Members, command: str) -> Finding:
    """Check that a group has members, and that every partition has one."""
    name, members = found.group.name, found.group.members
    if found.group.unnamed:
        return ok(
            "groups",
            f"{name}: {found.group.state}. The broker names no members, as the embedded one never does: it cannot tell "
            f"whether each of {counted(found.partitions, 'partition')} has one. `fhirline status` shows whether lag "
            "falls",
        )
    if not members:
        return warning("groups", f"{name}: no members, so nothing is read", f"start `fhirline {command}`")
    if found.group.state != STABLE:
        return warning(
            "groups",
            f"{name}: {found.group.state}, {counted(members, 'member')}",
            "run this again; workers are joining or leaving",
        )
    if found.unassigned:
        return warning(
            "groups",
            f"{name}: {found.unassigned} of {counted(found.partitions, 'partition')} without a member",
            f"see the {command}s' logs, and whether a vendor is in no worker's FHIRLINE_VENDORS",
        )
    return ok(
        "groups",
        f"{name}: {counted(members, 'member')}, each partition has one (of {found.partitions})",
    )


def letters(found: Status) -> Iterator[Finding]:
    """Check that no dead letter is open."""
    open_ones = {inflow.vendor: inflow.dead_letters for inflow in found.inflows if inflow.letters}
    waiting = [f"{vendor} {'many' if count is None else count}" for vendor, count in open_ones.items() if count != 0]
    if waiting:
        yield warning("dead letters", f"open: {', '.join(waiting)}", "see `fhirline dead-letters list`")
    else:
        yield ok("dead letters", "none is open")
