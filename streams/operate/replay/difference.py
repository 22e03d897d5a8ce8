"""One key whose replayed record is compared with the topic's: what kind of difference it is, and at which paths."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from fhirline.mappers import MAPPING_VERSION
from fhirline.streams.operate.replay.codes import CodeChange


class Kind(StrEnum):
    """The result of comparing a replayed record with the record on the topic."""

    SAME = "same"
    CHANGED = "changed"
    NEW = "new"
    GONE = "gone"
    BY_VERSION = "by version"
    """Differs in nothing but the mapper's version."""
    KEPT = "kept"
    """Written by a later event, or by an event of another partition. This range does not replace it."""


DIFFERING = frozenset({Kind.CHANGED, Kind.NEW, Kind.GONE, Kind.BY_VERSION})


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that differs, or is kept. ``raw``: position of the raw record behind it; empty where it is unknown.

    ``was``, ``tables_was``: mapping version and tables version of the record on the topic. ``paths``: elements that
    differ, without values. ``codes``: Codings that differ (`codes.changed_codes`); they are in no line.
    """

    kind: Kind
    key: str
    partition: int
    raw: str
    was: str = ""
    paths: tuple[str, ...] = ()
    tables_was: str = ""
    codes: tuple[CodeChange, ...] = ()

    @property
    def resource_type(self) -> str:
        return self.key.partition("/")[0]

    def line(self, tables_now: str) -> bytes:
        """Make a line of ``--diff-out``. It has keys, positions, versions and paths, and no patient data.

        ``tables_now``: version of the tables of this run.
        """
        document = {
            "kind": self.kind,
            "key": self.key,
            "partition": self.partition,
            "raw": self.raw,
            "was": self.was,
            "now": MAPPING_VERSION,
            "tables": {"was": self.tables_was, "now": tables_now},
            "paths": self.paths,
        }
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def differing_paths(was: Any, now: Any, at: str = "") -> set[str]:
    """Return the paths at which two JSON values differ: FHIR names joined by dots, ``[]`` for any item of a list.

    >>> sorted(differing_paths({"name": [{"family": "a"}], "gender": "male"}, {"name": [{"family": "b"}]}))
    ['gender', 'name[].family']
    """
    if isinstance(was, dict) and isinstance(now, dict):
        found: set[str] = set()
        for name in was.keys() | now.keys():
            below = f"{at}.{name}" if at else name
            if name not in was or name not in now:
                found.add(below)
            else:
                found |= differing_paths(was[name], now[name], below)
        return found or ({at} if [*was] != [*now] else set())
    if isinstance(was, list) and isinstance(now, list):
        found = {f"{at}[]"} if len(was) != len(now) else set()
        for one, other in zip(was, now, strict=False):
            found |= differing_paths(one, other, f"{at}[]")
        return found
    return set() if was == now and type(was) is type(now) else {at}


def differs_by_version_only(was: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tell whether two Provenances differ only in the mapper's Device, which is an agent and a target of each."""
    old, new = _mapper(was), _mapper(now)
    if not old or not new:
        return False
    renamed = orjson.loads(orjson.dumps(was).replace(old.encode(), new.encode()))
    return bool(_with_sorted_targets(renamed) == _with_sorted_targets(now))


def _with_sorted_targets(provenance: dict[str, Any]) -> dict[str, Any]:
    """Sort the targets, whose order follows the ids and so changes with the Device's."""
    return {**provenance, "target": sorted(provenance.get("target", ()), key=orjson.dumps)}


def _mapper(resource: dict[str, Any]) -> str:
    """Return the reference of the mapper's Device in a Provenance; empty for any other resource."""
    agents: Iterable[Any] = resource.get("agent", ()) if resource.get("resourceType") == "Provenance" else ()
    for agent in agents:
        if any(coding.get("code") == "assembler" for coding in agent.get("type", {}).get("coding", ())):
            return str(agent.get("who", {}).get("reference", ""))
    return ""
