"""Count what the folders of runs hold of one patient. They are in clear, and no erasure on topics reaches them."""

import os
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.streams.kafka.records import RecordPosition
from fhirline.streams.observe.terminal import counted
from fhirline.streams.operate.replay import folders
from fhirline.streams.operate.replay.journal import Journal
from fhirline.streams.operate.replay.plan import Plan
from fhirline.streams.operate.replay.remap import Job

IN_USE = "in use"


@dataclass(frozen=True, slots=True)
class PatientRecords:
    """The names by which the records of a patient are found in a run's folder.

    ``keys``: keys of resources. ``owners``: raw keys, with which the keys of state entries begin. ``origins``:
    positions of raw records.
    """

    keys: Collection[str]
    owners: Collection[str]
    origins: Collection[str]


@dataclass(frozen=True, slots=True)
class HeldByRun:
    """Counts of what one run holds of a patient. ``run`` is empty where the folder of runs cannot be read.

    ``unknown``: why it is unknown what the run holds, else empty.
    """

    run: str
    resources: int = 0
    state: int = 0
    unknown: str = ""


def held_by_runs(root: Path, patient: PatientRecords) -> Iterator[HeldByRun]:
    """Look into the folder of each run, and yield those that hold or may hold something of a patient.

    One that is in use, damaged, or of another user is not looked into.
    """
    try:
        known, left = folders.ids(root), folders.leftovers(root)
    except ConfigurationError as error:
        yield HeldByRun("", unknown=str(error))
        return
    for path in left:
        yield HeldByRun(path.name, unknown="left by a command that was killed")
    for id in known:
        try:
            held = _held(root / id, patient)
        except OSError as error:
            if not (root / id).exists():  # it has been removed since
                continue
            held = HeldByRun(id, unknown=f"{error.strerror}")
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError):  # of another release, or damaged
            held = HeldByRun(id, unknown="unreadable")
        if held.resources or held.state or held.unknown:
            yield held


def lines(held: Iterable[HeldByRun]) -> Iterator[str]:
    """Write what runs hold as lines of text, each with what to do. They name runs, and nothing of the patient."""
    label = "replay runs"
    for item in held:
        yield f"{label:18}{_line(item)}"
        label = ""


def _line(held: HeldByRun) -> str:
    if not held.run:
        return f"{held.unknown}: look for runs there"
    if held.run.startswith("."):
        return f"{held.run} was {held.unknown}, and may hold this patient's resources: the next replay removes it"
    remedy = f"discard it: fhirline replay --discard {held.run}"
    if held.unknown == IN_USE:
        return f"{held.run} is {held.unknown}, and may hold this patient's resources: run this again when it has ended"
    if held.unknown:
        return f"{held.run} cannot be read ({held.unknown}), and may hold this patient's resources: {remedy}"
    what = f"{counted(held.resources, 'resource')} and {counted(held.state, 'state entry', 'state entries')}"
    return f"{held.run} holds {what} of this patient in clear: {remedy}"


def _held(folder: Path, patient: PatientRecords) -> HeldByRun:
    if (descriptor := folders.lock(folder)) is None:
        return HeldByRun(folder.name, unknown=IN_USE)
    try:
        offsets: dict[str, set[int]] = defaultdict(set)
        for position in filter(None, map(RecordPosition.parse, patient.origins)):
            offsets[str(position.topic_partition)].add(position.offset)
        plan = Plan.load(folder)
        resources = state = 0
        for offset_range in plan.ranges:
            path = Job(offset_range, plan.selection, folder).journal
            if path.exists():
                with closing(Journal(path)) as journal:
                    found = journal.count_of(patient.keys, patient.owners, offsets[offset_range.source])
                resources, state = resources + found[0], state + found[1]
        return HeldByRun(folder.name, resources, state)
    finally:
        os.close(descriptor)
