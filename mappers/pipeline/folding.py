"""What an event says, merged with what is remembered (mapping.md §3.2): drafts of resources, and what to remember."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fhirline.mappers.context import Context
from fhirline.mappers.results import BuiltResource, Entry, Flag, Fold, MergeStrategy, NewResource, StateEntries, Version

State = Callable[[str], StateEntries]
"""State of a subject: register name → entry; empty where nothing is known."""


class StateUpdate(NamedTuple):
    """One register to remember: written to the state topic, merged by greatest version."""

    subject: str
    register: str
    entry: Entry


@dataclass(slots=True)
class DraftSet:
    """What an event's mapping and its folds have made, before meta, validation and Provenance."""

    drafts: list[tuple[BuiltResource, bool]]  # (resource, constant)
    targets: list[str]
    flags: list[Flag]
    statements: list[StateUpdate]


def collect(context: Context, made: NewResource | Fold, remembered: State, into: DraftSet) -> None:
    """Fold one resource with what is remembered (mapping.md §3.2) and add what goes out to the drafts."""
    if isinstance(made, Fold):
        registers, statements = _merged(made, context.version, remembered(made.subject))
        into.statements.extend(statements)
        built = made.build(registers)
        fresh = {f"{each.resource['resourceType']}/{each.resource['id']}" for each in built}
        for each in built:
            key = f"{each.resource['resourceType']}/{each.resource['id']}"
            last = None if each.targeted else remembered(key).get("stamp")
            if last and last.version > each.version:  # carried along, and written anew by a later event
                into.flags.append(Flag("stale-event", (key,)))
            else:
                into.drafts.append((each, False))
        into.targets.extend(made.targets)
        into.flags.extend(flag for each in built if each.targeted for flag in each.flags)
        if stale := tuple(each for each in made.targets if each not in fresh):
            into.flags.append(Flag("stale-event", stale))
        return
    key = f"{made.resource['resourceType']}/{made.resource['id']}"
    into.targets.append(key)
    if made.strategy is MergeStrategy.LAST_WRITER:
        last = remembered(key).get("stamp")
        if last and last.version > context.version:
            into.flags.append(Flag("stale-event", (key,)))
            return
        into.statements.append(StateUpdate(key, "stamp", Entry(context.version, None)))
    into.flags.extend(made.flags)
    folded = BuiltResource(
        made.resource,
        context.version,
        made.flags,
        event_independent=made.event_independent,
        ai=made.ai,
        security=made.security,
    )
    into.drafts.append((folded, made.strategy is MergeStrategy.CONSTANT))


def _merged(fold: Fold, version: Version, known: StateEntries) -> tuple[StateEntries, list[StateUpdate]]:
    """What the event says, merged into what is known: per register the greatest version wins.

    A register that the event wins is written again even where it is known with the same version: the memory it is known
    from may be ahead of what is durable (state.md §4).
    """
    merged: dict[str, Entry] = dict(known)
    statements = []
    for register, value in fold.updates.items():
        last = known.get(register)
        if last is None or not last.version > version:
            merged[register] = Entry(version, value)
            statements.append(StateUpdate(fold.subject, register, merged[register]))
    return merged, statements


class InMemoryState:
    """State in a dict: for ``fhirline map``, for tests, for the cache of a partition."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[str, Entry]] = {}

    def __call__(self, subject: str) -> Mapping[str, Entry]:
        return self._subjects.get(subject, {})

    def remember(self, statements: Sequence[StateUpdate]) -> None:
        """Merge statements: per register the greatest version wins, in whatever order they come."""
        for each in statements:
            registers = self._subjects.setdefault(each.subject, {})
            last = registers.get(each.register)
            if last is None or not last.version > each.entry.version:
                registers[each.register] = each.entry
