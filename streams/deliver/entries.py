"""The entries of a transaction Bundle: what is sent of them, and what orders them. Pure (fhir-delivery.md §2)."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.topics.declared import PATIENTLESS_TYPES, canonical_topic

Resource = dict[str, Any]

SHARED_TYPES = PATIENTLESS_TYPES - {"Slot"}
"""Types whose resources are in the Bundles of many patients. A Slot comes with the events of one professional only."""

DELETED = "deleted"
"""The digest of a resource that was deleted."""

PATIENT = "Patient/"

_KEY = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64}")
"""A type and an id as FHIR R4 writes them: no other server's address, no search, and no other record of the state."""


class UnreadableBundle(FhirlineError):
    """A record of the Bundle topic is no transaction Bundle of PUT and DELETE entries."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource to be written, or with None to be deleted. ``key`` is ``Type/id``, ``full_url`` as in its Bundle."""

    key: str
    resource: Resource | None
    digest: str
    full_url: str | None = None

    @classmethod
    def of_value(cls, key: str, value: bytes | None, base: str) -> "Entry":
        """Make the entry of a record of a ``fhir.r4.<Type>`` topic, which `resource_key` takes."""
        if value is None:
            return cls(key, None, DELETED)
        return cls(key, orjson.loads(value), digest_of(value), f"{base}/{key}")

    @property
    def shared(self) -> bool:
        return self.key.partition("/")[0] in SHARED_TYPES


def resource_key(topic: str, key: bytes | None, value: bytes | None) -> str | None:
    """Return the key of a record of a ``fhir.r4.<Type>`` topic; None where it is no resource, nor a tombstone, of it.

    >>> resource_key("fhir.r4.Slot", b"Slot/1", None), resource_key("fhir.r4.Slot", b"Slot/1", b"{")
    ('Slot/1', None)
    """
    try:
        name = (key or b"").decode()
        resource = None if value is None else orjson.loads(value)
        if resource is not None and f"{resource['resourceType']}/{resource['id']}" != name:
            return None
        if resource is not None:
            _written(resource)
    except (UnicodeDecodeError, orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return name if _KEY.fullmatch(name) and topic == canonical_topic(name.partition("/")[0]) else None


def digest_of(value: bytes) -> str:
    """Return 32 hex digits that stand for a resource's bytes."""
    return hashlib.sha256(value).hexdigest()[:32]


def entries_of(value: bytes | None) -> list[Entry]:
    """Read the entries of a Bundle. Raises UnreadableBundle."""
    try:
        bundle = orjson.loads(value or b"")
        found = []
        for sent in bundle["entry"]:
            method, key, resource = sent["request"]["method"], sent["request"]["url"], sent.get("resource")
            if (method, resource is None) not in (("PUT", False), ("DELETE", True)) or not _KEY.fullmatch(key):
                raise UnreadableBundle("an entry is neither a PUT of a resource nor a DELETE")
            if resource is not None and f"{resource['resourceType']}/{resource['id']}" != key:
                raise UnreadableBundle("a resource is not the one that its entry names")
            digest = DELETED if resource is None else digest_of(_written(resource))
            found.append(Entry(key, resource, digest, sent.get("fullUrl")))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise UnreadableBundle("not a transaction Bundle") from None
    return found


def _written(resource: Resource) -> bytes:
    """Write a resource. Raises TypeError where it is nested too deeply to be written inside a transaction Bundle."""
    return orjson.dumps([[[resource]]])[3:-3]


def transaction(entries: Iterable[Entry]) -> bytes:
    """Write a transaction Bundle of the entries, in their order."""
    return orjson.dumps(
        {"resourceType": "Bundle", "type": "transaction", "entry": [_as_sent(entry) for entry in entries]}
    )


def _as_sent(entry: Entry) -> Mapping[str, Any]:
    if entry.resource is None:
        return {"request": {"method": "DELETE", "url": entry.key}}
    full_url = {"fullUrl": entry.full_url} if entry.full_url else {}
    return {**full_url, "resource": entry.resource, "request": {"method": "PUT", "url": entry.key}}


def references(entries: Iterable[Entry]) -> list[str]:
    """Return what the entries refer to as ``Type/id``, each once, in the order of appearance, themselves left out."""
    entries = list(entries)
    own = {entry.key for entry in entries}
    found = dict.fromkeys(reference for entry in entries for reference in _literals(entry.resource))
    return [reference for reference in found if reference not in own]


def _literals(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "reference" and isinstance(item, str):
                kind, slash, id = item.partition("/")
                if slash and id and kind.isalpha() and "/" not in id:
                    yield item
            else:
                yield from _literals(item)
    elif isinstance(value, list):
        for item in value:
            yield from _literals(item)


def lanes_of(entries: Sequence[Entry]) -> frozenset[str]:
    """Return the lanes of a Bundle: its patients, and its own resources. Bundles with a common lane go one by one."""
    return patients_of(entries) | frozenset(entry.key for entry in entries if not entry.shared)


def patients_of(entries: Sequence[Entry]) -> frozenset[str]:
    """Return whose a Bundle is: the patients that it holds, as ``Patient/<id>``; else those that it refers to.

    With neither, its own resources. This is what waits where the server refuses the Bundle.

    >>> encounter = {"resourceType": "Encounter", "id": "1", "subject": {"reference": "Patient/7"}}
    >>> patients_of([Entry("Encounter/1", encounter, ""), Entry("Practitioner/5", {}, "")])
    frozenset({'Patient/7'})
    >>> sorted(patients_of([Entry("Slot/1", {}, ""), Entry("Slot/2", None, ""), Entry("Schedule/3", {}, "")]))
    ['Slot/1', 'Slot/2']
    """
    held = frozenset(entry.key for entry in entries if entry.key.startswith(PATIENT))
    patients = held or frozenset(key for key in references(entries) if key.startswith(PATIENT))
    own = frozenset(entry.key for entry in entries if not entry.shared)
    return patients or own or frozenset(entry.key for entry in entries)
