"""One patient's events and current resources, found by ``Patient/<id>`` or by the vendor's own key.

The events are those of the index. Resources are read from the patient's one partition of each topic, if it is short
enough to be read while somebody waits.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.config.settings import Settings
from fhirline.config.vendors import SLUG
from fhirline.mappers.instants import Instant
from fhirline.mappers.registry import VENDORS
from fhirline.streams.console.current_resources import Current, current_of
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.ids_of_keys import resources_of
from fhirline.streams.console.index_entries import IndexedEvent
from fhirline.streams.kafka.headers import EVENT_TYPE, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import RecordPosition, TopicPartition, headers_of
from fhirline.streams.step3_restore.erasure_list import ERASURE, Compartment, OtherKey
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.topics.declared import PATIENTLESS_TYPES, RESOURCE_TYPES, canonical_topic
from fhirline.topics.partition import partition_for

MOST_RECORDS = 50_000
"""Records that are read for one patient: less than a second."""

MOST_BUNDLES = 30
"""Bundles that are read for one patient: half a second."""

_BESIDE = PATIENTLESS_TYPES | {"Provenance"}
_REFERENCE = re.compile(r"Patient/[A-Za-z0-9.-]{1,64}")
_LONGEST_KEY = 500


class NoPatient(FhirlineError):
    """The typed text names no patient. The message explains what does, and repeats nothing of the text."""


@dataclass(frozen=True, slots=True)
class SoughtPatient:
    """The patient of a search.

    ``references``: each may be the Patient. ``compartment``: the patient by the vendor's key, if that was typed.
    """

    references: tuple[str, ...]
    compartment: Compartment | None = None

    @classmethod
    def parse(cls, text: str, settings: Settings) -> "SoughtPatient":
        """Read ``Patient/<id>`` or ``vendor|tenant|key``. Raises NoPatient."""
        if _REFERENCE.fullmatch(text):
            return cls((text,))
        vendor, tenant, key = [*text.split("|", 2), "", ""][:3]
        if vendor not in VENDORS or not re.fullmatch(SLUG, tenant) or not key or len(key) > _LONGEST_KEY:
            raise NoPatient(f"Type Patient/<id>, or vendor|tenant|key. Vendors: {', '.join(VENDORS)}.")
        plain = unquote(key)  # a raw record's key has it escaped
        typed = dict.fromkeys((key, plain))
        references = dict.fromkeys(each for part in typed for each in resources_of(settings, vendor, tenant, part, ""))
        if not references:
            raise NoPatient("The key has nothing but spaces.")
        return cls(tuple(references), Compartment.of(vendor, tenant, plain))


class PatientEvent(NamedTuple):
    """An event of the patient. ``made``: how many resources of each type, without those of no patient."""

    event: IndexedEvent
    made: Counter[str]
    flags: Sequence[str]


@dataclass(slots=True)
class Timeline:
    """A patient's events, the oldest first, and resources by type.

    ``unread``: types whose topics are too long. Their resources are as the last Bundle has them that was read.

    ``erased``: the patient is on the erasure list, or the Patient was deleted by an erasure.
    """

    reference: str | None = None
    events: list[PatientEvent] = field(default_factory=list)
    resources: dict[str, list[Current]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    erased: bool = False


def known(index: EventIndex, sought: SoughtPatient) -> Timeline:
    """Find the patient's events in the index."""
    found = Timeline()
    for reference in sought.references:
        if events := index.of_resource(reference):
            found.reference = reference
            found.events += [_patient_event(index, event) for event in events]
    found.events.sort(key=lambda item: _order(item.event))
    return found


def read(settings: Settings, index: EventIndex, sought: SoughtPatient, found: Timeline) -> None:
    """Read the current resources; where there is no event, whether the patient was erased."""
    with Scanner(settings) as scanner:
        if not found.events:
            found.erased = _is_listed(settings, sought) or _is_deleted(settings, scanner, sought)
            return
        wanted: dict[TopicPartition, dict[str, None]] = {}
        for item in found.events:
            position = RecordPosition.parse(item.event.provenance)
            if position is None:
                continue
            for reference in index.targets(item.event.id):
                if (name := reference.partition("/")[0]) in RESOURCE_TYPES and name not in _BESIDE:
                    place = TopicPartition(canonical_topic(name), position.partition)
                    wanted.setdefault(place, {})[reference] = None
        sizes = {place: scanner.reported_end(place) - scanner.first(*place) for place in wanted}
        left, chosen = MOST_RECORDS, list[TopicPartition]()
        for place in sorted(wanted, key=lambda place: sizes[place]):
            if sizes[place] <= left:
                left -= sizes[place]
                chosen.append(place)
        values = _values(scanner, chosen, {reference for place in chosen for reference in wanted[place]})
        unread = {reference for place in wanted if place not in chosen for reference in wanted[place]}
        values |= _of_bundles(scanner, found.events, unread)
    for name in RESOURCE_TYPES:
        for place, references in wanted.items():
            if place.topic != canonical_topic(name):
                continue
            if place not in chosen:
                found.unread.append(name)
            there = [reference for reference in references if place not in chosen or reference in values]
            found.resources.setdefault(name, []).extend(current_of(each, values.get(each, {})) for each in there)


def _patient_event(index: EventIndex, event: IndexedEvent) -> PatientEvent:
    types = (reference.partition("/")[0] for reference in index.made(event.id))
    return PatientEvent(event, Counter(name for name in types if name not in _BESIDE), index.flags(event.id))


def _order(event: IndexedEvent) -> tuple[tuple[int, str], int]:
    at = Instant.parse(event.occurred)
    return (at.order if at else (event.written // 1000, ""), event.written)


def _values(scanner: Scanner, places: Iterable[TopicPartition], wanted: set[str]) -> dict[str, Any]:
    """Return the current resources from their topics."""
    keys = {reference.encode(): reference for reference in wanted}
    values: dict[str, bytes] = {}
    for message in scanner.read(dict.fromkeys(places)):
        if (reference := keys.get(message.key() or b"")) is None:
            continue
        if (value := message.value()) is None:
            values.pop(reference, None)
        else:
            values[reference] = value
    return {reference: orjson.loads(value) for reference, value in values.items()}


def _of_bundles(scanner: Scanner, events: Sequence[PatientEvent], wanted: set[str]) -> dict[str, Any]:
    """Return the resources as the last Bundles of the events have them."""
    found: dict[str, Any] = {}
    positions = [position for each in reversed(events) if (position := RecordPosition.parse(each.event.bundle))]
    for position in positions[:MOST_BUNDLES]:
        if not wanted - found.keys():
            break
        message = scanner.at(position)
        bundle = orjson.loads((message.value() if message is not None else None) or b"{}")
        for resource in (entry.get("resource") or {} for entry in bundle.get("entry") or ()):
            reference = f"{resource.get('resourceType')}/{resource.get('id')}"
            if reference in wanted:
                found.setdefault(reference, resource)
    return found


def _is_listed(settings: Settings, sought: SoughtPatient) -> bool:
    """Tell whether the erasure list has the patient. Without the erasure key nobody can tell."""
    if sought.compartment is None:
        return False
    feed = ErasureListFeed(settings)
    try:
        feed.refresh()
        return feed.erasure_list.block(sought.compartment) is not None
    except OtherKey:
        return False
    finally:
        feed.close()


def _is_deleted(settings: Settings, scanner: Scanner, sought: SoughtPatient) -> bool:
    """Tell whether an erasure has deleted the Patient. Compaction removes the trace of it in time."""
    places = scanner.topic_partitions([canonical_topic("Patient")])
    if sought.compartment is not None:
        number = partition_for(sought.compartment.partition_key, settings.partitions)
        places = [place for place in places if place.partition == number]
    if sum(scanner.reported_end(place) - scanner.first(*place) for place in places) > MOST_RECORDS:
        return False
    keys = {reference.encode() for reference in sought.references}
    deleted = False
    for message in scanner.stored(dict.fromkeys(places)):
        if message.key() in keys:
            deleted = message.value() is None and header(headers_of(message), EVENT_TYPE) == ERASURE
    return deleted
