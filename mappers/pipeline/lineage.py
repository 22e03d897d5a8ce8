"""Where each leaf of an event's resources came from: found by trying, so that it is true of the mapping as it is.

One leaf of the body at a time is given another value, or left out, with the event key held; the event is mapped again,
with the same memory, and what comes out is compared. Time of receipt, tenant, event key, configuration and what earlier
events left are tried in the same way. What nothing changes is the mapping's own rule.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import count
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import orjson

from fhirline.config.vendors import TenantSettings, Vendor, Vendors
from fhirline.mappers.identity import Naming
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Body, Envelope
from fhirline.mappers.pipeline.ledger import escape, unescape
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalizer, State
from fhirline.mappers.results import Resource

RULE = "rule"
VENDOR = "vendor"
EVENT_KEY = "event key"
RECEIVED_AT = "received at"
TENANT = "tenant"
EARLIER = "earlier events"
CONFIGURATION = "configuration"

LEFT_OUT = object()
_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_YEAR = re.compile(r"(\d{4})-\d{2}-\d{2}", re.ASCII)
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
    "enrichment": (True, False),
}
"""Tenant settings that show in resources, each with values to try."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """One leaf of a resource (``Type/id``): its path, as FHIRPath writes it, and what it came from.

    ``sources`` are JSON Pointers into the body, names such as ``event key``, or ``rule``; ``given`` the pointers
    without which the rule would not have applied. What comes from the body is not told to come from the surroundings
    too: every id also depends on base, vendor and tenant.
    """

    resource: str
    path: str
    sources: tuple[str, ...]
    given: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """In words, for a person."""
        return ", ".join(self.sources) + (f", given {', '.join(self.given)}" if self.given else "")


def lineage(normalizer: Normalizer, envelope: Envelope, remembered: State) -> list[Lineage]:
    """Every leaf of every resource that the event makes, in the resources' order."""
    trial = _Trial(replace(normalizer, validate=lambda resource: []), envelope, remembered)
    trial.body()
    trial.equals()
    trial.surroundings()
    return [
        Lineage(key, path, *trial.found[key, path].told(_text(value)))
        for key, resource in trial.base.items()
        for path, value in _leaves(resource, resource["resourceType"])
    ]


@dataclass(slots=True)
class _Evidence:
    """What is known of one output leaf: source → text of the source, in the order of the body.

    ``computed``: another value there, another value (or none) here. ``present``: without it, another value here.
    ``conditional``: without it, no leaf here. ``whole``: otherwise the whole resource is not there.
    ``together``: as ``computed``, of leaves that say the same, where one alone leaves the others standing.
    """

    computed: dict[str, str] = field(default_factory=dict)
    present: dict[str, str] = field(default_factory=dict)
    conditional: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    together: dict[str, str] = field(default_factory=dict)
    around: dict[str, str] = field(default_factory=dict)

    def told(self, value: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(sources, given): the leaves that stand in the value, else those that change it, else the surroundings."""
        changing = {**self.present, **self.computed}
        if within := [source for source, text in changing.items() if _stands_in(text, value)]:
            return tuple(within), ()
        switching = {**self.whole, **self.conditional}
        if within := [source for source, text in switching.items() if len(text) > 3 and _stands_in(text, value)]:
            return tuple(within), ()
        if changing:
            earlier = [EARLIER] if EARLIER in self.around else []
            return (*(self.computed or _deepest(self.present)), *earlier), ()
        if self.together:
            return tuple(self.together), ()
        if self.around:
            within = [source for source, text in self.around.items() if _stands_in(text, value)]
            return tuple(within or self.around), ()
        return (RULE,), tuple(_deepest(self.conditional))


class _Trial:
    """One event, mapped over and over."""

    def __init__(self, normalizer: Normalizer, envelope: Envelope, remembered: State) -> None:
        self.normalizer, self.envelope, self.remembered = normalizer, envelope, remembered
        self.taken = {_text(value) for _, value in _places(envelope.body)}
        self.written: dict[bytes, Resource] = {}
        self.base = self._made(normalizer, envelope, remembered)
        self.found: dict[tuple[str, str], _Evidence] = {}
        for key, resource in self.base.items():
            for path, value in _leaves(resource, resource["resourceType"]):
                vendor = {VENDOR: envelope.vendor} if _stands_in(envelope.vendor, _text(value)) else {}
                self.found[key, path] = _Evidence(around=vendor)

    def body(self) -> None:
        """Every leaf of the body with other values, and it and everything around it left out."""
        for pointer, value in _places(self.envelope.body):
            if (other := _other_value(value, self.taken)) is not None:
                for key, path, gone in self._tried(_changed(self.envelope.body, _way(pointer), other)):
                    evidence = self.found[key, path]
                    (evidence.whole if gone == "resource" else evidence.computed)[pointer] = _text(value)
            for key, path, gone in self._tried(_changed(self.envelope.body, _way(pointer), LEFT_OUT)):
                evidence = self.found[key, path]
                into = {"resource": evidence.whole, "leaf": evidence.conditional, "": evidence.present}[gone]
                into[pointer] = _text(value)

    def equals(self) -> None:
        """Leaves that say the same, all at once: of equal items one is taken (mapping.md §3.6)."""
        equal: dict[str, list[str]] = {}
        for pointer, value in _places(self.envelope.body):
            if _text(value):
                equal.setdefault(_text(value), []).append(pointer)
        for text, pointers in equal.items():
            if len(pointers) > 1:
                body = self.envelope.body
                for pointer in pointers:
                    other = _other_value(_at(body, pointer), self.taken)
                    body = body if other is None else _changed(body, _way(pointer), other)
                for key, path, gone in self._tried(body):
                    if gone != "resource":
                        self.found[key, path].together.update(dict.fromkeys(pointers, text))

    def surroundings(self) -> None:
        """Everything but the body."""
        envelope, normalizer = self.envelope, self.normalizer
        other_key = "".join("f" if digit == "0" else "0" for digit in envelope.event_key)
        received = Instant.parse(_shifted(envelope.received_at.text))
        self._around(EVENT_KEY, envelope.event_key[:16], replace(envelope, event_key=other_key))
        if received:
            self._around(RECEIVED_AT, envelope.received_at.text, replace(envelope, received_at=received))
        self._around(TENANT, envelope.tenant, replace(envelope, tenant=f"x{envelope.tenant}"[:32]))
        base = normalizer.naming.base
        elsewhere = Naming(f"{base}/x", normalizer.naming.server_base)
        self._around(f"{CONFIGURATION} base", base, normalizer=replace(normalizer, naming=elsewhere))
        now = normalizer.vendors[envelope.vendor].settings(envelope.tenant)
        for name, values in _SETTINGS.items():
            for value in (each for each in values if each != getattr(now, name)):
                settings = now.model_copy(update={name: value})
                vendors = _with(normalizer.vendors, envelope.vendor, settings=settings)
                self._around(f"{CONFIGURATION} {name}", "", normalizer=replace(normalizer, vendors=vendors))
        name = normalizer.vendors[envelope.vendor].name
        vendors = _with(normalizer.vendors, envelope.vendor, name=f"{name} x", settings=now)
        self._around(f"{CONFIGURATION} vendor's name", name, normalizer=replace(normalizer, vendors=vendors))
        self._around(EARLIER, "", remembered=InMemoryState())

    def _around(
        self,
        source: str,
        text: str,
        envelope: Envelope | None = None,
        normalizer: Normalizer | None = None,
        remembered: State | None = None,
    ) -> None:
        made = self._made(normalizer or self.normalizer, envelope or self.envelope, remembered or self.remembered)
        for key, path, gone in _differences(self.base, made):
            if gone != "resource":
                self.found[key, path].around[source] = text

    def _tried(self, body: Body) -> Iterator[tuple[str, str, str]]:
        made = self._made(self.normalizer, replace(self.envelope, body=body), self.remembered)
        return _differences(self.base, made)

    def _made(self, normalizer: Normalizer, envelope: Envelope, remembered: State) -> dict[str, Resource]:
        """Resources as they are written; equal bytes are one object, so that most comparisons cost nothing."""
        made: dict[str, Resource] = {}
        for output in normalizer(envelope, remembered).outputs:
            if (resource := self.written.get(output.value)) is None:
                resource = self.written[output.value] = orjson.loads(output.value)
            made[output.key] = resource
        return made


# -- what is tried


def _places(body: Body) -> Iterator[tuple[str, Any]]:
    """Every place below the body, containers and leaves."""

    def below(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
        inner: Iterable[tuple[str, Any]] = ()
        if isinstance(value, dict):
            inner = ((escape(key), item) for key, item in value.items())
        elif isinstance(value, list):
            inner = ((str(position), item) for position, item in enumerate(value))
        for step, item in inner:
            yield f"{pointer}/{step}", item
            yield from below(item, f"{pointer}/{step}")

    return below(body, "")


def _other_value(value: Any, taken: Set[str]) -> Any:
    """A value of the same form, so that it is read like the other one, and not one that is ``taken``; None if none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return next(other for step in range(1, len(taken) + 2) if _text(other := value + step) not in taken)
    if isinstance(value, float):
        return value / 2
    if not isinstance(value, str) or not value or value.isspace():
        return None
    return _shifted(value) if _YEAR.match(value) else next(each for each in _altered(value) if each not in taken)


def _shifted(date: str) -> str:
    """A date or date-time 28 years earlier: of the same week days and leap years, and not in the future."""
    return f"{max(int(date[:4]) - 28, 1):04}{date[4:]}"


def _altered(text: str) -> Iterator[str]:
    """``text`` with a letter or digit, the last first, another of its kind: addresses and codes keep their form."""
    for position in range(len(text) - 1, -1, -1):
        found = text[position]
        kind = "0123456789" if found.isdecimal() else ascii_uppercase if found.isupper() else ascii_lowercase
        if found.isalnum():
            yield from (f"{text[:position]}{other}{text[position + 1 :]}" for other in kind if other != found)
    yield from (text + "x" * times for times in count(1))


def _way(pointer: str) -> list[str]:
    return [unescape(step) for step in pointer.split("/")[1:]]


def _at(value: Any, pointer: str) -> Any:
    for step in _way(pointer):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def _changed(value: Any, way: Sequence[str], new: Any) -> Any:
    """A copy of ``value`` with another one at the end of the way; what stands beside the way is shared.

    Of what is left out of a list null stays, so that what follows keeps its position.
    """
    if not way:
        return None if new is LEFT_OUT else new
    step, *rest = way
    if isinstance(value, list):
        position = int(step)
        return [*value[:position], _changed(value[position], rest, new), *value[position + 1 :]]
    if new is LEFT_OUT and not rest:
        return {key: item for key, item in value.items() if key != step}
    return {key: _changed(item, rest, new) if key == step else item for key, item in value.items()}


def _with(vendors: Vendors, vendor: str, settings: TenantSettings, name: str | None = None) -> Vendors:
    """The same vendors, one of them with other settings, for every tenant."""
    other = Vendor(name=name or vendors[vendor].name, defaults=settings, tenants={})
    return Vendors(vendors={**vendors.vendors, vendor: other})


# -- what has changed


def _differences(base: Mapping[str, Resource], made: Mapping[str, Resource]) -> Iterator[tuple[str, str, str]]:
    """(key, path, what is gone) of each leaf that is not as it was; ``""``: it is there, with another value."""
    counterparts = _counterparts(base, made)
    for key, resource in base.items():
        path = resource["resourceType"]
        if key not in counterparts:
            yield from ((key, leaf, "resource") for leaf, _ in _leaves(resource, path))
        elif (other := made[counterparts[key]]) is not resource:
            yield from ((key, leaf, gone) for leaf, gone in _unlike(resource, other, path))


def _counterparts(base: Mapping[str, Resource], made: Mapping[str, Resource]) -> dict[str, str]:
    """Which resource has become which: that of the same id, else of the same type, the likest first."""
    pairs = {key: key for key in base if key in made}
    rest = [key for key in base if key not in pairs]
    new = [key for key in made if key not in pairs]
    if not rest or not new:
        return pairs
    for old, other in _likest([base[key] for key in rest], [made[key] for key in new]):
        if base[rest[old]]["resourceType"] == made[new[other]]["resourceType"]:
            pairs[rest[old]] = new[other]
    return pairs


def _likest(base: Sequence[Any], made: Sequence[Any]) -> list[tuple[int, int]]:
    """Pairs of positions of what has the most leaves in common, the likest first; each position once."""
    said = [set(_said(each)) for each in base], [set(_said(each)) for each in made]
    alike = [(-len(old & new), i, j) for i, old in enumerate(said[0]) for j, new in enumerate(said[1])]
    pairs: dict[int, int] = {}
    for common, i, j in sorted(alike):
        if common and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return list(pairs.items())


def _said(value: Any) -> Iterator[str]:
    return (f"{path} {_text(leaf)}" for path, leaf in _leaves(value, ""))


def _unlike(base: Any, other: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(base, dict) and isinstance(other, dict):
        for name, value in base.items():
            if name in other:
                yield from _unlike(value, other[name], f"{path}.{name}")
            else:
                yield from ((leaf, "leaf") for leaf, _ in _leaves(value, f"{path}.{name}"))
    elif isinstance(base, list) and isinstance(other, list):
        yield from _unlike_items(base, other, path)
    elif base != other:
        yield from ((leaf, "") for leaf, _ in _leaves(base, path))


def _unlike_items(base: Sequence[Any], other: Sequence[Any], path: str) -> Iterator[tuple[str, str]]:
    """Items that are equal stay, wherever they have moved; those between them are compared in order."""
    if base == other:
        return
    matcher = SequenceMatcher(None, [*map(orjson.dumps, base)], [*map(orjson.dumps, other)], autojunk=False)
    for operation, start, end, other_start, other_end in matcher.get_opcodes():
        if operation in ("equal", "insert"):
            continue
        old, new = base[start:end], other[other_start:other_end]
        pairs = dict(_likest(old, new) if len(old) != len(new) else enumerate(range(len(old))))
        for position, item in enumerate(old):
            place = f"{path}[{start + position}]"
            if position in pairs:
                yield from _unlike(item, new[pairs[position]], place)
            else:
                yield from ((leaf, "leaf") for leaf, _ in _leaves(item, place))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{path}[{position}]")
    else:
        yield path, value


def _stands_in(text: str, value: str) -> bool:
    """Whether a text stands in a value as words of its own; in a UUID nothing does."""
    text = text.strip()
    if not text or text not in value or _UUID.search(value):
        return False
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", value) is not None


def _deepest(pointers: Iterable[str]) -> list[str]:
    """Without those that stand above another."""
    found = list(pointers)
    return [each for each in found if not any(other.startswith(f"{each}/") for other in found)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if isinstance(value, dict | list) or value is None else json.dumps(value)
