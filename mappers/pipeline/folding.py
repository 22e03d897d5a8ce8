"""Folding: merge what an event updates with the stored state, and build resources of the result (mapping.md §3.2)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from fhirline.mappers.pipeline.limits import HISTORY_CUT, TooComplex
from fhirline.mappers.results import (
    BuiltResource,
    Entry,
    Flag,
    Fold,
    MergeStrategy,
    NewResource,
    Refused,
    StateEntries,
    Version,
)

State = Callable[[str], StateEntries]
"""Returns the stored entries of a subject (``<ResourceType>/<id>``), by name; none for an unknown subject."""

LAST_VERSION = "stamp"
"""Name of the entry that holds a last-writer resource's version. Names are part of the state topic's keys."""


class StateUpdate(NamedTuple):
    """One entry of a subject's state, to be written to the state topic and merged there by greatest version.

    ``deleted``: the entry is removed instead, since its subject has too many (mapping.md §1.1).
    """

    subject: str
    name: str
    entry: Entry
    deleted: bool = False


@dataclass(slots=True)
class DraftSet:
    """The products of an event's mapping and folds, before meta, validation and Provenance.

    ``drafts``: resources, each with whether it is constant (`MergeStrategy.CONSTANT`). ``constants``: ``Type/id`` of
    the constant ones, of which each is made once. ``targets``: references for the event's Provenance. ``updates``: what
    to store. ``refused``: what folds refused.
    """

    drafts: list[tuple[BuiltResource, bool]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    updates: list[StateUpdate] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)

    def add_constant(self, made: NewResource, version: Version) -> None:
        """Add a draft of a constant resource, unless there is one."""
        key = f"{made.resource['resourceType']}/{made.resource['id']}"
        if key not in self.constants:
            self.constants.add(key)
            self.drafts.append((_draft(made, version), True))


_SMALL = 1_000
"""The part of the limit of a subject's state below which an event's updates are stored without a look at its size."""


def collect(
    made: NewResource | Fold,
    version: Version,
    state: State,
    into: DraftSet,
    most_entries: int = 1_000,
    most_bytes: int = 16_777_216,
) -> None:
    """Add the drafts of one result of a mapping, and its state updates. ``version`` is the event's.

    A fold is built from at most ``most_entries`` state entries of one kind, those of the greatest versions; then its
    first resource has the flag ``history-cut`` (mapping.md §1.1). Raises TooComplex where the event alone has more, or
    where it would make the subject's entries larger than ``most_bytes`` together.

    Any order of arrival ends in the same resource: per entry the greatest version wins.

    >>> def name_fold(name: str) -> Fold:
    ...     def build(entries: StateEntries) -> list[BuiltResource]:
    ...         latest = entries["field name"]
    ...         return [BuiltResource({"resourceType": "Patient", "id": "1", "name": latest.value}, latest.version)]
    ...     return Fold("Patient/1", {"field name": name}, build, targets=("Patient/1",))
    >>> state = InMemoryState()
    >>> for second, name in ((20, "Ana"), (10, "Anna")):  # the second one arrives late
    ...     drafts = DraftSet()
    ...     collect(name_fold(name), Version((second, ""), "event key"), state, drafts)
    ...     state.apply(drafts.updates)
    ...     print(drafts.drafts[0][0].resource["name"], [update.entry.value for update in drafts.updates])
    Ana ['Ana']
    Ana []
    """
    if isinstance(made, Fold):
        _collect_fold(made, version, state, into, most_entries, most_bytes)
    else:
        _collect_new(made, version, state, into)


def _collect_fold(fold: Fold, version: Version, state: State, into: DraftSet, most: int, most_bytes: int) -> None:
    entries, updates = _merged(fold, version, state(fold.subject))
    cut = False
    if len(entries) > most:
        entries, updates, cut = _latest(fold, version, entries, updates, most)
    if _size(update.entry for update in updates) > most_bytes // _SMALL and _size(entries.values()) > most_bytes:
        raise TooComplex("state bytes", fold.subject.partition("/")[0])
    into.updates.extend(updates)
    resources: list[BuiltResource] = []
    for made in fold.build(entries):
        if isinstance(made, Refused):
            into.refused.append(made)
            into.flags.append(made.flag)
        elif isinstance(made, NewResource):
            into.add_constant(made, version)
        elif isinstance(made, Fold):
            into.drafts.extend((built._replace(targeted=False), False) for built in _known(made, state))
        else:
            resources.append(made)
    if cut and resources:
        resources[0] = resources[0]._replace(flags=(*resources[0].flags, Flag(HISTORY_CUT, (fold.subject,))))
    keys = set()
    for built in resources:
        key = f"{built.resource['resourceType']}/{built.resource['id']}"
        keys.add(key)
        last = None if built.targeted else state(key).get(LAST_VERSION)
        if last and last.version > built.version:  # built along with the subject; a later event has written it
            into.flags.append(Flag("stale-event", (key,)))
        else:
            into.drafts.append((built, False))
    into.targets.extend(fold.targets)
    into.flags.extend(flag for built in resources if built.targeted for flag in built.flags)
    if stale := tuple(target for target in fold.targets if target not in keys):
        into.flags.append(Flag("stale-event", stale))


def _size(entries: Iterable[Entry]) -> int:
    """Return the bytes of entries as they are stored."""
    return sum(len(orjson.dumps(entry.stored())) for entry in entries)


def _known(fold: Fold, state: State) -> list[BuiltResource]:
    """Build a resource of another subject as earlier events made it; nothing where the state has none of it."""
    entries = {name: entry for name, entry in state(fold.subject).items() if name != LAST_VERSION}
    return [built for built in fold.build(entries) if isinstance(built, BuiltResource)] if entries else []


def _collect_new(made: NewResource, version: Version, state: State, into: DraftSet) -> None:
    key = f"{made.resource['resourceType']}/{made.resource['id']}"
    into.targets.append(key)
    if made.strategy is MergeStrategy.LAST_WRITER:
        last = state(key).get(LAST_VERSION)
        if last and last.version > version:
            into.flags.append(Flag("stale-event", (key,)))
            return
        into.updates.append(StateUpdate(key, LAST_VERSION, Entry(version, None)))
    into.flags.extend(made.flags)
    if made.strategy is MergeStrategy.CONSTANT:
        into.add_constant(made, version)
    else:
        into.drafts.append((_draft(made, version), False))


def _draft(made: NewResource, version: Version) -> BuiltResource:
    return BuiltResource(
        made.resource,
        version,
        made.flags,
        event_independent=made.event_independent,
        ai=made.ai,
        security=made.security,
    )


def _merged(fold: Fold, version: Version, known: StateEntries) -> tuple[StateEntries, list[StateUpdate]]:
    """Merge a fold's updates into the known entries, and return the updates that won.

    An update of the same version as the known entry wins, and is written again: the known entry may come from memory
    and not be durable yet (state.md §4).
    """
    merged: dict[str, Entry] = dict(known)
    updates = []
    for name, value in fold.updates.items():
        last = known.get(name)
        if last is None or not last.version > version:
            merged[name] = Entry(version, value)
            updates.append(StateUpdate(fold.subject, name, merged[name]))
    return merged, updates


def _latest(
    fold: Fold, version: Version, merged: StateEntries, updates: list[StateUpdate], most: int
) -> tuple[StateEntries, list[StateUpdate], bool]:
    """Limit the entries of each kind to those of the greatest versions.

    A kind is the word before the first space of an entry's name (``transition <event key>``). Returns the entries to
    build from, the updates to store, and whether any entry is missing. One entry more than is used stays in the state:
    it tells later events that entries are missing, in whatever order they came. Older ones are deleted.
    """
    kinds: dict[str, list[str]] = {}
    for name in merged:
        kinds.setdefault(name.partition(" ")[0], []).append(name)
    unused: set[str] = set()
    deleted: set[str] = set()
    for names in kinds.values():
        if len(names) > most:
            if sum(name in fold.updates and merged[name].version == version for name in names) > most:
                raise TooComplex("state entries", fold.subject.partition("/")[0])
            names.sort(key=lambda name: (merged[name].version[:2], name), reverse=True)
            unused.update(names[most:])
            deleted.update(names[most + 1 :])
    if not unused:
        return merged, updates, False
    stored = {update.name for update in updates} - deleted
    left = {name: entry for name, entry in merged.items() if name not in unused}
    kept = [update for update in updates if update.name in stored]
    return left, [*kept, *(StateUpdate(fold.subject, name, merged[name], True) for name in sorted(deleted))], True


class InMemoryState:
    """State in a dict, for mapping without Kafka. Call it with a subject to read that subject's entries."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[str, Entry]] = {}

    def __call__(self, subject: str) -> Mapping[str, Entry]:
        return self._subjects.get(subject, {})

    def apply(self, updates: Iterable[StateUpdate]) -> None:
        """Merge updates, in any order: per entry the greatest version wins."""
        for update in updates:
            entries = self._subjects.setdefault(update.subject, {})
            if update.deleted:
                entries.pop(update.name, None)
                continue
            last = entries.get(update.name)
            if last is None or not last.version > update.entry.version:
                entries[update.name] = update.entry
