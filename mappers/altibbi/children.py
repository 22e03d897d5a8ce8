"""The children of a recommendation, and how the state of their consultation holds them (mapping.md §3.5).

A child is a resource that a recommendation makes, other than the Encounter. A later recommendation replaces the
earlier one, but no child is deleted. Each child has a state entry, which the recommendation of greatest version that
contains the child has written. A child that the latest recommendation does not contain is flagged as absent from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fhirline.mappers.altibbi.encounter import LATEST
from fhirline.mappers.context import Context, constant
from fhirline.mappers.results import BuiltResource, Entry, Flag, Flags, NewResource, Resource, StateEntries, Version

CHILD = "child "
"""Prefix of the name of a child's state entry. The child's reference follows it. Stored in the state topic."""

ABSENT = "absent-from-latest-source"

UNKNOWN_WHERE_ABSENT = frozenset({"CarePlan", "MedicationRequest", "Observation", "ServiceRequest"})
"""Types whose status becomes ``unknown``. ``cancelled`` or ``entered-in-error`` would be a claim that nobody made."""


@dataclass(frozen=True, slots=True)
class Child:
    """A resource of a recommendation. ``lines`` is its text in the list of its section of the Composition.

    ``medication``: the Medication to which it refers, which is constant (mapping.md §4.6).
    """

    resource: Resource
    flags: Flags = field(default_factory=Flags)
    lines: tuple[str, ...] = ()
    medication: Resource | None = None

    @property
    def reference(self) -> str:
        """Return the reference ``<ResourceType>/<id>``."""
        return f"{self.resource['resourceType']}/{self.resource['id']}"


def child_entries(children: Sequence[Child], context: Context) -> dict[str, Any]:
    """Return the state entries that an event writes of its children, as plain JSON: name → value."""
    return {
        f"{CHILD}{child.reference}": {
            "resource": _stored(child.resource),
            "flags": [{"code": flag.code, "at": list(flag.at), "table": flag.table} for flag in child.flags],
            "source": [context.event_key, context.event_type],
            **({"medication": _stored(child.medication)} if child.medication else {}),
        }
        for child in children
    }


def _stored(resource: Resource) -> Resource:
    return {name: value for name, value in resource.items() if name != "meta"}


def _restored(stored: Resource) -> Resource:
    return {"resourceType": "", "id": "", "meta": {}, **stored}


def built_children(context: Context, entries: StateEntries) -> list[BuiltResource | NewResource]:
    """Build this event's children and, if it is the latest recommendation, the children that it does not contain.

    A child that a newer recommendation has written is not built: that event has built it. The exception are the
    Conditions to which the Encounter refers. Each child comes with its Medication. So the event's Bundle is complete
    by itself (mapping.md §3.1).
    """
    if LATEST not in entries:
        return []
    latest, diagnosis = entries[LATEST].version, entries[LATEST].value["diagnosis"]
    built: list[BuiltResource | NewResource] = []
    for name in sorted(name for name in entries if name.startswith(CHILD)):
        entry = entries[name]
        own = entry.version == context.version
        absent = entry.version < latest
        reference = name.removeprefix(CHILD)
        if own or reference in diagnosis or (absent and latest == context.version):
            built.append(_built(name, entry, absent, own, max(entry.version, latest)))
            if medication := entry.value.get("medication"):
                built.append(constant(_restored(medication)))
    return built


def _built(name: str, entry: Entry, absent: bool, own: bool, version: Version) -> BuiltResource:
    stored = entry.value
    medication = stored.get("medication")
    resource = _restored(stored["resource"])
    flags = [Flag(flag["code"], tuple(flag["at"]), flag["table"]) for flag in stored["flags"]]
    if absent:
        flags.append(Flag(ABSENT, (name.removeprefix(CHILD),)))
        if resource["resourceType"] in UNKNOWN_WHERE_ABSENT:
            resource["status"] = "unknown"
    event_key, event_type = stored["source"]
    return BuiltResource(
        resource,
        version,
        tuple(flags),
        targeted=own,
        event_independent=False,
        source=(event_key, event_type),
        entry=name,
        needs=(f"Medication/{medication['id']}",) if medication else (),
    )
