"""What a recommendation makes, as its consultation remembers it (mapping.md §3.5).

A later recommendation replaces the earlier one, and nothing is deleted: a child is as the greatest-stamped
recommendation that holds it made it, and where that is not the latest one, it says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhirline.mappers.altibbi.encounter import LATEST
from fhirline.mappers.context import Context, Item
from fhirline.mappers.results import BuiltResource, Flag, Flags, Resource, StateEntries

REGISTER = "child "
ABSENT = "absent-from-latest-source"
UNKNOWN_WHERE_ABSENT = frozenset({"CarePlan", "MedicationRequest", "Observation", "ServiceRequest"})
"""Types whose status no longer stands; ``cancelled`` or ``entered-in-error`` would be a claim that nobody made."""


@dataclass(frozen=True, slots=True)
class Child:
    """A resource of a recommendation; ``words`` are how it reads in the Composition, an item each."""

    resource: Resource
    flags: Flags = field(default_factory=Flags)
    words: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        return f"{self.resource['resourceType']}/{self.resource['id']}"


@dataclass(slots=True)
class Unused:
    """Items of which nothing is made: the ledger keeps what stands in them."""

    flags: Flags = field(default_factory=Flags)
    pointers: list[str] = field(default_factory=list)

    def unless(self, item: Item[Any], *told: str | None) -> bool:
        """Whether an item says who or what it is; else it yields nothing, flag ``item-empty`` (mapping.md §3.6)."""
        if any(told):
            return True
        self.flags.add("item-empty", item.pointer)
        self.pointers.append(item.pointer)
        return False


def updates(children: Sequence[Child], context: Context) -> Mapping[str, Any]:
    """State entries of the children: plain JSON, since they are remembered beyond this process."""
    return {
        f"{REGISTER}{child.reference}": {
            "resource": {name: value for name, value in child.resource.items() if name != "meta"},
            "flags": [{"code": flag.code, "at": list(flag.at), "table": flag.table} for flag in child.flags],
            "source": [context.event_key, context.event_type],
        }
        for child in children
    }


def children(context: Context, registers: StateEntries) -> list[BuiltResource]:
    """The event's own children as they now read and, if it is the latest recommendation, those it left out.

    A child that a newer recommendation has made again is not this event's to write.
    """
    latest = registers[LATEST].version
    found = []
    for name in sorted(each for each in registers if each.startswith(REGISTER)):
        entry = registers[name]
        own = entry.version == context.version
        if own or (latest == context.version and entry.version < latest):
            resource: Resource = {"resourceType": "", "id": "", "meta": {}, **entry.value["resource"]}
            flags = [Flag(each["code"], tuple(each["at"]), each["table"]) for each in entry.value["flags"]]
            if entry.version < latest:
                flags.append(Flag(ABSENT, (name.removeprefix(REGISTER),)))
                if resource["resourceType"] in UNKNOWN_WHERE_ABSENT:
                    resource["status"] = "unknown"
            event_key, event_type = entry.value["source"]
            found.append(
                BuiltResource(
                    resource,
                    max(entry.version, latest),
                    tuple(flags),
                    targeted=own,
                    event_independent=False,
                    source=(event_key, event_type),
                )
            )
    return found
