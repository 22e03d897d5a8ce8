"""One event and what is remembered, in; resources, Bundle, outcome and what to remember, out. Pure.

The pipeline that is the same for every vendor: find the mapping, map, fold with state, put meta on, validate, add
Provenance and Bundle. Called by the worker, by replay and by ``fhirline map``; nothing here knows which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from fhirline.config.terminology import Terminology
from fhirline.config.vendors import Vendors
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.narratives import identifiers, narrated
from fhirline.mappers.fhir.validation import Problem, Validator
from fhirline.mappers.identity import Naming
from fhirline.mappers.instants import Instant
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline import common_resources
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.folding import DraftSet, InMemoryState, State, StateUpdate, collect
from fhirline.mappers.pipeline.ledger import Ledger, read_ledger
from fhirline.mappers.pipeline.outcome import operation_outcome
from fhirline.mappers.pipeline.schema_drift import drift
from fhirline.mappers.registry import raw_key, vendor_mapping
from fhirline.mappers.results import BuiltResource, Element, Entry, Flag, MappingResult, Refused, Resource, Version

__all__ = ["InMemoryState", "Normalized", "Normalizer", "Output", "Refusal", "State", "StateUpdate"]

OWN_PARTITION = frozenset({"Practitioner", "Organization", "Device", "Schedule", "Slot"})
"""Types that belong to no patient and are partitioned by their own key (mapping.md §2)."""

UNKNOWN = "unknown"
"""Event type of headers and tags where the payload's own is not a known one: payload text goes nowhere."""


class Output(NamedTuple):
    """A resource ready to leave. ``key`` is ``Type/id``; ``partition_by`` what its partition is computed from.

    ``constant``: may be left out of its per-type topic where the same bytes have gone out before (mapping.md §3.1).
    """

    resource: Resource
    key: str
    value: bytes
    partition_by: str
    version: Version
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A resource that did not go out: the dead letter's content. ``code`` is stable."""

    code: str
    resource_type: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Normalized:
    """Everything that follows from one event."""

    event_type: str
    version: Version
    raw_key: str
    """``tenant|<patientKey>``: the key of the event's raw record, and what its registers' keys begin with."""
    outputs: tuple[Output, ...]
    bundle: Output | None
    outcome: Output | None
    refusals: tuple[Refusal, ...]
    statements: tuple[StateUpdate, ...]
    flags: tuple[Flag, ...]
    ledger: Ledger
    drift: tuple[str, ...] = ()
    """Paths of which no rule speaks (`mappers.pipeline.schema_drift`)."""
    unmapped: tuple[str, ...] = ()
    """The code table of each of the event's words that has no row in it (mapping.md §12), sorted."""


@dataclass(frozen=True, slots=True)
class Normalizer:
    """The pure core with its configuration bound."""

    vendors: Vendors
    naming: Naming
    terminology: Terminology
    validate: Validator
    _standing: dict[tuple[str, str], tuple[Output, ...]] = field(default_factory=dict, init=False, repr=False)
    """(vendor, tenant) → Organization and Device, which no event changes: made and validated once."""

    def __call__(self, envelope: Envelope, remembered: State) -> Normalized:
        received = f"Event/{envelope.event_key}"
        if first := remembered(received).get("received"):
            envelope = envelope.received_first(Instant(first.version.at, first.version.order))
        declared = vendor_mapping(envelope.vendor)
        event_type = declared.event_type(envelope.body, envelope.route_event)
        mapping = declared.events.get(event_type) if event_type else None
        known = event_type if event_type and (mapping or event_type in declared.unmapped) else UNKNOWN
        vendor = self.vendors[envelope.vendor]
        context = Context(
            envelope,
            known,
            declared.event_time(envelope),
            vendor.settings(envelope.tenant),
            self.naming,
            self.terminology,
            vendor.name,
        )
        if mapping is None:
            mapped, model = MappingResult(flags=(Flag("not-supported"),)), None
        else:
            model = mapping.model.model_validate(envelope.body)
            mapped = mapping.map(model, context)
        statements = []
        if context.time.from_received and mapped.made:
            entry = Entry(Version(envelope.received_at.order, envelope.event_key, envelope.received_at.text), None)
            statements.append(StateUpdate(received, "received", entry))
        return self._assembled(context, mapped, model, remembered, statements)

    def _assembled(
        self,
        context: Context,
        mapped: MappingResult,
        model: Payload | None,
        remembered: State,
        statements: list[StateUpdate],
    ) -> Normalized:
        event_flags = [*(Flag(code) for code in context.time.flags if mapped.made), *mapped.flags]
        drafts = DraftSet([], [], [*event_flags, *(each.flag for each in mapped.refused)], statements)
        for made in mapped.made:
            collect(context, made, remembered, drafts)
        leaving = _Leaving(context, self.validate, raw_key(context.envelope), drafts)
        leaving.refusals.extend(map(_refusal, mapped.refused))

        outputs = [*self._constants(context, leaving)] if mapped.made else []
        made_here = {*drafts.targets, *(each.key for each in outputs)}
        for draft, constant in drafts.drafts:
            if output := leaving.drafted(draft, constant):
                outputs.append(output)

        ledger = read_ledger(context.envelope.body, model, mapped)
        targets = sorted(made_here - leaving.invalid, key=common_resources.target_order)
        published = bool(outputs and targets)
        if published:
            unplaced = [context.source_data(leaf.pointer, leaf.value) for leaf in ledger.remarks if leaf.unplaced]
            provenance = common_resources.provenance(context, targets, unplaced, mapped.professional, mapped.engine)
            meta = common_resources.meta(context, [flag.code for flag in event_flags])
            if output := leaving.leave(provenance, meta, context.version):
                outputs.append(output)
        outputs.sort(key=lambda each: common_resources.target_order(each.key))

        bundle = leaving.bundle(outputs) if outputs else None
        outcome = operation_outcome(context, drafts.flags, ledger.remarks, published)
        return Normalized(
            context.event_type,
            context.version,
            leaving.raw_key,
            tuple(outputs),
            bundle,
            leaving.leave(outcome, outcome["meta"], context.version) if outcome else None,
            tuple(leaving.refusals),
            tuple(drafts.statements),
            tuple(drafts.flags),
            ledger,
            drift(ledger),
            _unmapped(mapped, drafts.flags),
        )

    def _constants(self, context: Context, leaving: "_Leaving") -> Iterator[Output]:
        at = (context.envelope.vendor, context.envelope.tenant)
        if at not in self._standing:
            made = (common_resources.organization(context), common_resources.mapper_device(context))
            meta = common_resources.meta(context, (), event_independent=True)
            valid = [
                each for each in (leaving.leave(one.resource, meta, context.version, True) for one in made) if each
            ]
            if len(valid) < len(made):
                yield from valid
                return
            self._standing[at] = tuple(valid)
        for each in self._standing[at]:
            yield each._replace(version=context.version)


class _Leaving:
    """One event's resources on their way out: meta, narrative, validation, bytes. What is invalid becomes a refusal."""

    __slots__ = (
        "_context",
        "_drafts",
        "_metas",
        "_partition",
        "_patients",
        "_validate",
        "invalid",
        "raw_key",
        "refusals",
    )

    def __init__(self, context: Context, validate: Validator, raw_key: str, drafts: DraftSet) -> None:
        self.raw_key = raw_key
        self.refusals: list[Refusal] = []
        self.invalid: set[str] = set()
        self._context, self._validate, self._drafts = context, validate, drafts
        self._partition = f"{context.envelope.vendor}|{raw_key}"
        narratives = context.settings.narratives
        self._patients = identifiers(draft.resource for draft, _ in drafts.drafts) if narratives else None
        self._metas: dict[Any, Element] = {}

    def drafted(self, draft: BuiltResource, constant: bool) -> Output | None:
        """A draft with its meta. Few differ within an event, so that each is made once."""
        codes = tuple([flag.code for flag in draft.flags])
        security = tuple([(each["system"], each["code"]) for each in draft.security])
        like = (codes, draft.event_independent, draft.ai, security, draft.source)
        meta = self._metas.get(like)
        if meta is None:
            meta = self._metas[like] = common_resources.meta(
                self._context,
                codes,
                event_independent=draft.event_independent,
                ai=draft.ai,
                security=draft.security,
                source=draft.source,
            )
        return self.leave(draft.resource, meta, draft.version, constant)

    def bundle(self, outputs: Sequence[Output]) -> Output | None:
        made = common_resources.bundle(self._context, [(each.key, each.value) for each in outputs])
        distinct = len({each.key for each in outputs}) == len(outputs)
        checked = common_resources.sample(made) if distinct else common_resources.without_resources(made)
        return self._left(made, self._context.version, checked=checked)

    def leave(self, resource: Resource, meta: Element, version: Version, constant: bool = False) -> Output | None:
        """With meta and, where the tenant wants them, the narrative that follows from all of it (mapping.md §13)."""
        resource["meta"] = meta
        if self._patients is not None:
            resource = narrated(resource, self._patients)
        return self._left(resource, version, constant)

    def _left(
        self, resource: Resource, version: Version, constant: bool = False, checked: Resource | None = None
    ) -> Output | None:
        """Validate and serialize; an invalid resource becomes a refusal, the rest of the event goes on."""
        resource_type = resource["resourceType"]
        key = f"{resource_type}/{resource['id']}"
        if problems := self._validate(checked or resource):
            self.refusals.append(Refusal("resource-invalid", resource_type, tuple(problems)))
            self._drafts.flags.append(Flag("resource-invalid", tuple(problem.path for problem in problems)))
            self.invalid.add(key)
            return None
        by = key if resource_type in OWN_PARTITION else self._partition
        return Output(resource, key, orjson.dumps(resource), by, version, constant)


def _refusal(refused: Refused) -> Refusal:
    """Named by where the source does not say what the resource needs, as JSON Pointers."""
    flag = refused.flag
    problems = (Problem(pointer, flag.code, "Without this the resource cannot be made validly") for pointer in flag.at)
    return Refusal("resource-refused", refused.resource_type, tuple(problems))


def _unmapped(mapped: MappingResult, flags: Sequence[Flag]) -> tuple[str, ...]:
    """A word counts once, however many resources of the event it stands in."""
    places = {(flag.table, place) for flag in flags if flag.table for place in flag.at or ("",)}
    places.update((table, pointer) for pointer, table in mapped.unmapped.items())
    return tuple(sorted(table for table, _ in places))
