"""Practitioners: one fold over what several raw partitions contribute (mapping.md §3.2, "contributions"). Pure.

The events about one professional come from the partitions of many patients. A raw partition's **contribution** to a
Practitioner is all state entries that its events have of that subject. A later contribution of the same partition
replaces the earlier one as a whole. The Practitioner is built from the entries of all contributions, the greatest
version of each. So any order of events, and any split of them over partitions, ends in the same bytes.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from fhirline.mappers.context import Context
from fhirline.mappers.fhir.validation import Problem
from fhirline.mappers.instants import Instant
from fhirline.mappers.people import IDENTIFIER, person
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.folding import LAST_VERSION, DraftSet, State, StateUpdate
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.mappers.pipeline.output import Output, OutputBuilder
from fhirline.mappers.results import Entry, StateEntries, Version
from fhirline.mappers.times import EventTime
from fhirline.topics.declared import SHARED_TYPES

_SHARED = tuple(f"{resource_type}/" for resource_type in SHARED_TYPES)


class ContributionKey(NamedTuple):
    """The key of a contribution. ``source`` is the raw partition, as ``topic/partition``.

    >>> key = ContributionKey("azodha", "acme", "Practitioner/1", "raw.azodha/3")
    >>> key.text
    b'["azodha|acme","Practitioner/1","raw.azodha/3"]'
    >>> ContributionKey.parse(key.text) == key
    True
    """

    vendor: str
    tenant: str
    subject: str
    source: str

    @property
    def text(self) -> bytes:
        """Return the key as the topic holds it."""
        return orjson.dumps([f"{self.vendor}|{self.tenant}", self.subject, self.source])

    @classmethod
    def parse(cls, text: bytes) -> "ContributionKey":
        """Read a key. Raises ValueError where it has another form."""
        owner, subject, source = orjson.loads(text)
        vendor, separator, tenant = owner.partition("|")
        if not separator or not subject.startswith(_SHARED):
            raise ValueError("no key of a contribution")
        return cls(vendor, tenant, subject, source)


def contributed(updates: Iterable[StateUpdate], state: State) -> dict[str, StateEntries]:
    """Return the contributions that an event changes: subject → all entries that its raw partition has of it.

    ``state`` is the partition's state before the event, ``updates`` are the event's. An event that changes no entry of
    a Practitioner contributes nothing new.
    """
    found: dict[str, dict[str, Entry]] = {}
    for update in updates:
        if update.subject.startswith(_SHARED):
            entries = found.get(update.subject)
            if entries is None:
                entries = found[update.subject] = {**state(update.subject)}
                entries.pop(LAST_VERSION, None)  # of releases in which the last writer made the whole Practitioner
            entries[update.name] = update.entry
            if update.deleted:
                del entries[update.name]
    return {subject: entries for subject, entries in found.items() if entries}


def encoded(entries: StateEntries) -> bytes:
    """Encode a contribution's entries. Equal entries give equal bytes."""
    return orjson.dumps({name: entries[name].stored() for name in sorted(entries)})


def decoded(value: bytes) -> StateEntries:
    """Reverse `encoded`. Raises ValueError, KeyError, TypeError or AttributeError where the value has another form."""
    return {name: Entry.of(stored) for name, stored in orjson.loads(value).items()}


def version_of(entries: StateEntries) -> Version:
    """Return the greatest version of a contribution's entries."""
    return max(entry.version for entry in entries.values())


def merged(contributions: Mapping[str, StateEntries]) -> StateEntries:
    """Merge contributions (source → entries): under each name the entry of the greatest version.

    >>> older, newer = Version((10, ""), "k1"), Version((20, ""), "k2")
    >>> one = {"field name": Entry(older, "Dr A"), "field photo": Entry(older, "p")}
    >>> other = {"field name": Entry(newer, "Dr B")}
    >>> {name: entry.value for name, entry in merged({"raw.v/0": one, "raw.v/1": other}).items()}
    {'field name': 'Dr B', 'field photo': 'p'}
    """
    found: dict[str, Entry] = {}
    for source in sorted(contributions):
        for name, entry in contributions[source].items():
            known = found.get(name)
            if known is None or entry.version > known.version:
                found[name] = entry
    return found


def latest(contributions: Mapping[str, StateEntries]) -> str:
    """Return the source of the greatest version: the event that the Practitioner's headers name."""
    return max(contributions, key=lambda source: (version_of(contributions[source])[:2], source))


def folded(
    normalize: Normalizer, vendor: str, tenant: str, subject: str, contributions: Mapping[str, StateEntries]
) -> Output | tuple[Problem, ...]:
    """Build a Practitioner from its contributions; return its problems where it is invalid.

    Raises KeyError where the vendor is not configured.
    """
    entries = merged(contributions)
    if not any(name.startswith(IDENTIFIER) for name in entries):
        return (Problem(subject, "incomplete", "no contribution has an identifier"),)
    built = person(subject, entries)
    at = Instant(built.version.at, built.version.order)
    configured = normalize.vendors[vendor]
    context = Context(
        Envelope(vendor, tenant, at, {}, built.version.event_key),
        "",  # its meta names no event
        EventTime(at, at, from_received=False),
        configured.settings(tenant),
        normalize.naming,
        normalize.terminology,
        configured.name,
    )
    build = OutputBuilder(context, normalize.validate, "", DraftSet(drafts=[(built, False)]))
    output = build.of_draft(built, constant=False)
    if output is None:
        return tuple(problem for refusal in build.refusals for problem in refusal.problems)
    return output
