"""What an event says, merged with what is remembered (mapping.md §3.2): drafts of resources, and what to remember."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fhirline.mappers.context import Context
from fhirline.mappers.results import Entry, Feeding, Flag, Fold, Folded, Made, Registers, Stamp

Remembered = Callable[[str], Registers]
"""State of a subject: register name → entry; empty where nothing is known."""


class Statement(NamedTuple):
    """One register to remember: written to the state topic, merged by greatest stamp."""

    subject: str
    register: str
    entry: Entry


@dataclass(slots=True)
class Drafts:
    """What an event's mapping and its folds have made, before meta, validation and Provenance."""

    drafts: list[tuple[Folded, bool]]  # (resource, constant)
    targets: list[str]
    flags: list[Flag]
    statements: list[Statement]


def collect(context: Context, made: Made | Fold, remembered: Remembered, into: Drafts) -> None:
    """Fold one resource with what is remembered (mapping.md §3.2) and add what goes out to the drafts."""
    if isinstance(made, Fold):
        registers, statements = _merged(made, context.stamp, remembered(made.subject))
        into.statements.extend(statements)
        built = made.build(registers)
        fresh = {f"{each.resource['resourceType']}/{each.resource['id']}" for each in built}
        for each in built:
            key = f"{each.resource['resourceType']}/{each.resource['id']}"
            last = None if each.targeted else remembered(key).get("stamp")
            if last and last.stamp > each.stamp:  # carried along, and written anew by a later event
                into.flags.append(Flag("stale-event", (key,)))
            else:
                into.drafts.append((each, False))
        into.targets.extend(made.makes)
        into.flags.extend(flag for each in built if each.targeted for flag in each.flags)
        if stale := tuple(each for each in made.makes if each not in fresh):
            into.flags.append(Flag("stale-event", stale))
        return
    key = f"{made.resource['resourceType']}/{made.resource['id']}"
    into.targets.append(key)
    if made.feeding is Feeding.LAST_WRITER:
        last = remembered(key).get("stamp")
        if last and last.stamp > context.stamp:
            into.flags.append(Flag("stale-event", (key,)))
            return
        into.statements.append(Statement(key, "stamp", Entry(context.stamp, None)))
    into.flags.extend(made.flags)
    folded = Folded(made.resource, context.stamp, made.flags, shared=made.shared, ai=made.ai, security=made.security)
    into.drafts.append((folded, made.feeding is Feeding.CONSTANT))


def _merged(fold: Fold, stamp: Stamp, known: Registers) -> tuple[Registers, list[Statement]]:
    """What the event says, merged into what is known: per register the greatest stamp wins.

    A register that the event wins is written again even where it is known with the same stamp: the memory it is known
    from may be ahead of what is durable (state.md).
    """
    merged: dict[str, Entry] = dict(known)
    statements = []
    for register, value in fold.says.items():
        last = known.get(register)
        if last is None or not last.stamp > stamp:
            merged[register] = Entry(stamp, value)
            statements.append(Statement(fold.subject, register, merged[register]))
    return merged, statements


class Memory:
    """Remembered state in a dict: for ``fhirline map``, for tests, for the cache of a partition."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[str, Entry]] = {}

    def __call__(self, subject: str) -> Mapping[str, Entry]:
        return self._subjects.get(subject, {})

    def remember(self, statements: Sequence[Statement]) -> None:
        """Merge statements: per register the greatest stamp wins, in whatever order they come."""
        for each in statements:
            registers = self._subjects.setdefault(each.subject, {})
            last = registers.get(each.register)
            if last is None or not last.stamp > each.entry.stamp:
                registers[each.register] = each.entry
