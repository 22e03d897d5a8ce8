"""The experiment that finds lineage: an event is mapped many times, each time with one input altered."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from fhirline.mappers.identity import Naming
from fhirline.mappers.instants import Instant
from fhirline.mappers.json_pointer import parts, value_at
from fhirline.mappers.pipeline.envelope import Body, Envelope
from fhirline.mappers.pipeline.lineage.alter import LEFT_OUT, changed, earlier, other_value, places, with_settings
from fhirline.mappers.pipeline.lineage.compare import Change, Difference, differences, leaf_paths, text_of
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalizer, State
from fhirline.mappers.results import Resource

RULE = "rule"
VENDOR = "vendor"
EVENT_KEY = "event key"
RECEIVED_AT = "received at"
TENANT = "tenant"
EARLIER = "earlier events"
CONFIGURATION = "configuration"

_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "source_time_zone": ("Asia/Tokyo", "America/Lima"),
    "confidentiality": ("N", "R"),
    "sandbox": (False, True),
    "ai_security": ("DEVAST", "AIAST"),
    "snomed": (True, False),
    "narratives": (True, False),
    "note_documents": (True, False),
    "mrn_system": (None, "urn:oid:1.1"),
    "icd10_system": ("http://hl7.org/fhir/sid/icd-10", "http://hl7.org/fhir/sid/icd-10-cm"),
    "duration_unit": (None, "d", "wk"),
    "lab_intent": ("plan", "order"),
    "unknown_status": ("data-absent-reason", "refuse"),
    "tz_code": (False, True),
    "enrichment": (True, False),
}
"""Tenant settings that affect resources, each with the values to try."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """One leaf of a resource (``Type/id``), by its FHIRPath, and where it came from.

    ``sources`` are JSON Pointers into the body, names such as ``event key``, or ``rule``. ``given`` are the pointers
    without which the rule would not have applied. A leaf with a source in the body is not attributed to other inputs as
    well, although every id also depends on base, vendor and tenant. ``affecting`` are all pointers whose value was seen
    to change the leaf or to remove it.
    """

    resource: str
    path: str
    sources: tuple[str, ...]
    given: tuple[str, ...] = ()
    affecting: frozenset[str] = frozenset()

    @property
    def source(self) -> str:
        """Return the sources as one text, for people."""
        return ", ".join(self.sources) + (f", given {', '.join(self.given)}" if self.given else "")


def lineage(
    normalizer: Normalizer, envelope: Envelope, state: State, proceed: Callable[[], None] = lambda: None
) -> list[Lineage]:
    """Find the lineage of every leaf of every resource that the event makes, in the resources' order.

    The event is mapped more than once per leaf of its body. ``proceed`` is called each time, and ends
    the search by raising an exception.
    """
    trial = _Trial(replace(normalizer, validate=lambda resource: []), envelope, state, proceed)
    trial.alter_body()
    trial.alter_equal_leaves()
    trial.alter_other_inputs()
    return [
        Lineage(key, path, *trial.evidence[key, path].conclusion(text_of(value)), trial.evidence[key, path].pointers)
        for key, resource in trial.base.items()
        for path, value in leaf_paths(resource, resource["resourceType"])
    ]


@dataclass(slots=True)
class _Evidence:
    """The inputs that were seen to affect one output leaf: source → the source's text, in the order of the body.

    * ``computed``: with another value there, the leaf has another value or is gone.
    * ``present``: without it, the leaf has another value.
    * ``conditional``: without it, the leaf is gone.
    * ``resource``: without it, or with another value, the whole resource is gone.
    * ``together``: as ``computed``, where all leaves of one text were altered at once.
    * ``other``: inputs outside the body that affect the leaf.
    """

    computed: dict[str, str] = field(default_factory=dict)
    present: dict[str, str] = field(default_factory=dict)
    conditional: dict[str, str] = field(default_factory=dict)
    resource: dict[str, str] = field(default_factory=dict)
    together: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)

    @property
    def pointers(self) -> frozenset[str]:
        """Return the JSON Pointers of everything in the body that was seen to affect the leaf."""
        return frozenset((*self.computed, *self.present, *self.conditional, *self.resource, *self.together))

    def conclusion(self, value: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return (sources, given) of a leaf with this text.

        Sources whose text is contained in the value come first, then those that change the value, then other inputs.
        """
        changing = {**self.present, **self.computed}
        if contained := [source for source, text in changing.items() if _contains(value, text)]:
            return tuple(contained), ()
        switching = {**self.resource, **self.conditional}
        if contained := [source for source, text in switching.items() if len(text) > 3 and _contains(value, text)]:
            return tuple(contained), ()
        if changing:
            state = [EARLIER] if EARLIER in self.other else []
            return (*(self.computed or _deepest(self.present)), *state), ()
        if self.together:
            return tuple(self.together), ()
        if self.other:
            contained = [source for source, text in self.other.items() if _contains(value, text)]
            return tuple(contained or self.other), ()
        return (RULE,), tuple(_deepest(self.conditional))


class _Trial:
    """Maps one event with altered inputs, and collects evidence by (resource's key, leaf's path)."""

    def __init__(self, normalizer: Normalizer, envelope: Envelope, state: State, proceed: Callable[[], None]) -> None:
        self.normalizer, self.envelope, self.state, self.proceed = normalizer, envelope, state, proceed
        self.taken = {text_of(value) for _, value in places(envelope.body)}
        self.parsed: dict[bytes, Resource] = {}
        self.base = self._map(normalizer, envelope, state)
        self.evidence: dict[tuple[str, str], _Evidence] = {}
        for key, resource in self.base.items():
            for path, value in leaf_paths(resource, resource["resourceType"]):
                vendor = {VENDOR: envelope.vendor} if _contains(text_of(value), envelope.vendor) else {}
                self.evidence[key, path] = _Evidence(other=vendor)

    def alter_body(self) -> None:
        """Give each place of the body another value, then leave it out."""
        body = self.envelope.body
        for pointer, value in places(body):
            if (other := other_value(value, self.taken)) is not None:
                for found in self._with_body(changed(body, parts(pointer), other)):
                    evidence = self.evidence[found.key, found.path]
                    gone = found.change is Change.RESOURCE_GONE
                    (evidence.resource if gone else evidence.computed)[pointer] = text_of(value)
            for found in self._with_body(changed(body, parts(pointer), LEFT_OUT)):
                evidence = self.evidence[found.key, found.path]
                into = {
                    Change.RESOURCE_GONE: evidence.resource,
                    Change.LEAF_GONE: evidence.conditional,
                    Change.VALUE: evidence.present,
                }[found.change]
                into[pointer] = text_of(value)

    def alter_equal_leaves(self) -> None:
        """Give all leaves of one text another value at once: the mapping takes equal items as one (mapping.md §3.6)."""
        by_text: dict[str, list[str]] = {}
        for pointer, value in places(self.envelope.body):
            if text_of(value):
                by_text.setdefault(text_of(value), []).append(pointer)
        for text, pointers in by_text.items():
            if len(pointers) > 1:
                body = self.envelope.body
                for pointer in pointers:
                    other = other_value(value_at(body, pointer), self.taken)
                    body = body if other is None else changed(body, parts(pointer), other)
                for found in self._with_body(body):
                    if found.change is not Change.RESOURCE_GONE:
                        self.evidence[found.key, found.path].together.update(dict.fromkeys(pointers, text))

    def alter_other_inputs(self) -> None:
        """Alter event key, time of receipt, tenant, configuration and state, one at a time."""
        envelope, normalizer = self.envelope, self.normalizer
        other_key = "".join("f" if digit == "0" else "0" for digit in envelope.event_key)
        received = Instant.parse(earlier(envelope.received_at.text))
        self._with_input(EVENT_KEY, envelope.event_key[:16], replace(envelope, event_key=other_key))
        if received:
            self._with_input(RECEIVED_AT, envelope.received_at.text, replace(envelope, received_at=received))
        self._with_input(TENANT, envelope.tenant, replace(envelope, tenant=f"x{envelope.tenant}"[:32]))
        base = normalizer.naming.base
        other_naming = Naming(f"{base}/x", normalizer.naming.server_base)
        self._with_input(f"{CONFIGURATION} base", base, normalizer=replace(normalizer, naming=other_naming))
        now = normalizer.vendors[envelope.vendor].settings(envelope.tenant)
        for name, values in _SETTINGS.items():
            for value in values:
                if value != getattr(now, name):
                    settings = now.model_copy(update={name: value})
                    vendors = with_settings(normalizer.vendors, envelope.vendor, settings)
                    self._with_input(f"{CONFIGURATION} {name}", "", normalizer=replace(normalizer, vendors=vendors))
        name = normalizer.vendors[envelope.vendor].name
        vendors = with_settings(normalizer.vendors, envelope.vendor, now, name=f"{name} x")
        self._with_input(f"{CONFIGURATION} vendor's name", name, normalizer=replace(normalizer, vendors=vendors))
        self._with_input(EARLIER, "", state=InMemoryState())

    def _with_input(
        self,
        source: str,
        text: str,
        envelope: Envelope | None = None,
        normalizer: Normalizer | None = None,
        state: State | None = None,
    ) -> None:
        made = self._map(normalizer or self.normalizer, envelope or self.envelope, state or self.state)
        for found in differences(self.base, made):
            if found.change is not Change.RESOURCE_GONE:
                self.evidence[found.key, found.path].other[source] = text

    def _with_body(self, body: Body) -> Iterator[Difference]:
        made = self._map(self.normalizer, replace(self.envelope, body=body), self.state)
        return differences(self.base, made)

    def _map(self, normalizer: Normalizer, envelope: Envelope, state: State) -> dict[str, Resource]:
        """Map the event to ``Type/id`` → resource. Equal bytes are one object, which makes comparisons cheap."""
        self.proceed()
        made: dict[str, Resource] = {}
        for output in normalizer(envelope, state).outputs:
            if (resource := self.parsed.get(output.value)) is None:
                resource = self.parsed[output.value] = orjson.loads(output.value)
            made[output.key] = resource
        return made


def _contains(value: str, text: str) -> bool:
    """Return whether a value contains a text as whole words; a value with a UUID contains nothing."""
    text = text.strip()
    if not text or text not in value or _UUID.search(value):
        return False
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", value) is not None


def _deepest(pointers: Iterable[str]) -> list[str]:
    """Return the pointers that have no other one below them."""
    found = list(pointers)
    return [pointer for pointer in found if not any(other.startswith(f"{pointer}/") for other in found)]
