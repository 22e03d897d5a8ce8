"""The pipeline: one event and the stored state give resources, Bundle, outcome and state updates. Pure.

It is the same for every vendor and every caller (worker, replay, ``fhirline map``): find the mapping, map, fold with
the stored state, add meta, validate, add Provenance and Bundle.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fhirline.config.terminology import Terminology
from fhirline.config.vendors import Vendors
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.validation import Validator
from fhirline.mappers.identity import Naming
from fhirline.mappers.instants import Instant
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline import common_resources
from fhirline.mappers.pipeline.bounds import LEVELS, Bounded, bounded
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.folding import DraftSet, InMemoryState, State, StateUpdate, collect
from fhirline.mappers.pipeline.kept import kept_leaves
from fhirline.mappers.pipeline.ledger import PLACEHOLDER, Ledger, read_ledger
from fhirline.mappers.pipeline.limits import CONTENT_CUT, STRING_CUT, Cut, Limits, TooComplex
from fhirline.mappers.pipeline.outcome import operation_outcome
from fhirline.mappers.pipeline.output import Output, OutputBuilder, Refusal
from fhirline.mappers.pipeline.redaction.credentials import withhold
from fhirline.mappers.pipeline.schema_drift import ShownPointers, schema_drift
from fhirline.mappers.registry import EventMapping, raw_key, vendor_mapping
from fhirline.mappers.results import Entry, Flag, Fold, MappingResult, MergeStrategy, Version

__all__ = ["InMemoryState", "Normalized", "Normalizer", "Output", "Refusal", "State", "StateUpdate"]

UNKNOWN = "unknown"
"""Event type in headers and tags of an event whose type is not a known one: they never hold text of the payload."""

_OF_UNREAD = ("Provenance", "OperationOutcome")
"""Types of the resources whose bytes depend on values that no mapping reads."""

FIRST_RECEIPT = "received"
"""Name of the state entry that holds when an event without a time of its own was first received."""


@dataclass(frozen=True, slots=True)
class Normalized:
    """The result of normalizing one event."""

    event_type: str
    version: Version
    raw_key: str
    """``tenant|<patientKey>``: the key of the event's raw record, and the beginning of its state records' keys."""
    outputs: tuple[Output, ...]
    bundle: Output | None
    outcome: Output | None
    refusals: tuple[Refusal, ...]
    state_updates: tuple[StateUpdate, ...]
    flags: tuple[Flag, ...]
    ledger: Ledger
    schema_drift: tuple[str, ...] = ()
    """Paths that no rule treats (`mappers.pipeline.schema_drift`)."""
    unmapped_at: tuple[tuple[str, str], ...] = ()
    """(code table, JSON Pointer) of each of the event's words that has no row there (mapping.md §12), sorted."""

    @property
    def unmapped(self) -> tuple[str, ...]:
        """Return the code table of each of the event's words that has no row there, sorted."""
        return tuple(table for table, _ in self.unmapped_at)


@dataclass(frozen=True, slots=True)
class Normalizer:
    """The pure core with its configuration. Call it with an event and the stored state."""

    vendors: Vendors
    naming: Naming
    terminology: Terminology
    validate: Validator
    limits: Limits = field(default_factory=Limits)
    """Limits of one event (mapping.md §1.1)."""
    _constant_outputs: dict[tuple[str, str], tuple[Output, ...]] = field(default_factory=dict, init=False, repr=False)
    """(vendor, tenant) → Organization and Device, which depend on no event: made and validated once."""

    def __call__(self, envelope: Envelope, state: State) -> Normalized:
        """Map an event; raise TooComplex where its clinical content alone exceeds the limits (mapping.md §1.1)."""
        receipt = f"Event/{envelope.event_key}"
        if first := state(receipt).get(FIRST_RECEIPT):
            envelope = envelope.received_first(Instant(first.version.at, first.version.order))
        key = raw_key(envelope)
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
            within, unmapped = Bounded(envelope.body, envelope.body), MappingResult(flags=(Flag("not-supported"),))
            return self._assemble(context, key, unmapped, None, state, within)
        level = 0
        while True:
            within = bounded(envelope.body, mapping.model, self.limits, level)
            try:
                return self._map(context, key, mapping, within, state)
            except TooComplex as error:
                level = level + 1 if error.path in _OF_UNREAD else within.further
                if level >= LEVELS:
                    raise

    def _map(self, context: Context, key: str, mapping: EventMapping, within: Bounded, state: State) -> Normalized:
        """Map the part of an event's body that is within the limits, without credentials (mapping.md §7)."""
        body, withheld = withhold(within.body)
        envelope = context.envelope
        if body is not envelope.body:
            envelope = replace(envelope, body=body)
            context = replace(context, envelope=envelope)
        model = mapping.model.model_validate(body)
        mapped = mapping.map(model, context)
        if _number_limited(mapped) > self.limits.resources:
            raise TooComplex("resources")
        updates = []
        if context.time.from_received and mapped.resources:
            entry = Entry(Version(envelope.received_at.order, envelope.event_key, envelope.received_at.text), None)
            updates.append(StateUpdate(f"Event/{envelope.event_key}", FIRST_RECEIPT, entry))
        return self._assemble(context, key, mapped, model, state, within, updates, withheld)

    def _assemble(
        self,
        context: Context,
        key: str,
        mapped: MappingResult,
        model: Payload | None,
        state: State,
        within: Bounded,
        updates: Sequence[StateUpdate] = (),
        withheld: tuple[str, ...] = (),
    ) -> Normalized:
        """Fold what the mapping made, and make the outputs of it."""
        ledger = read_ledger(context.envelope.body, model, mapped, within.cuts, within.whole)
        unplaced = [leaf for leaf in ledger.notable if leaf.unplaced]
        kept = kept_leaves(unplaced, within.whole, self.limits) if mapped.resources else unplaced
        cuts = [leaf.value for leaf in kept if isinstance(leaf.value, Cut)]
        event_flags = [
            *map(Flag, context.envelope.flags),
            *(Flag(code) for code in context.time.flags if mapped.resources),
            *mapped.flags,
            *([Flag("withheld-secret", withheld)] if withheld else ()),
        ]
        if placeholders := tuple(leaf.pointer for leaf in ledger.notable if leaf.rule == PLACEHOLDER):
            event_flags.append(Flag("placeholder-id", placeholders))
        if cuts:
            event_flags.append(Flag(CONTENT_CUT, tuple(cut.pointer for cut in cuts)))
        if within.shortened:
            event_flags.append(Flag(STRING_CUT, within.shortened))
        drafts = DraftSet(flags=[*event_flags, *(refused.flag for refused in mapped.refused)], updates=[*updates])
        for made in mapped.resources:
            collect(made, context.version, state, drafts, self.limits.state, self.limits.bytes)
        if sum(not constant for _, constant in drafts.drafts) > self.limits.resources:
            raise TooComplex("resources")
        build = OutputBuilder(context, self.validate, key, drafts, self.limits.bytes)
        build.refusals.extend(map(Refusal.of, (*mapped.refused, *drafts.refused)))

        outputs = [*self._constants(context, build)] if mapped.resources else []
        targets = {*drafts.targets, *(output.key for output in outputs)}
        for draft, constant in drafts.drafts:
            if output := build.of_draft(draft, constant):
                outputs.append(output)

        unfit = _unfit_entries(drafts, build.invalid) if build.invalid else frozenset()
        valid_targets = sorted(targets - build.invalid, key=common_resources.target_order)
        published = bool(outputs and valid_targets)
        if published:
            source_data = [context.source_data(leaf.pointer, leaf.value) for leaf in kept]
            provenance = common_resources.provenance(
                context, valid_targets, source_data, mapped.professional, mapped.engine
            )
            meta = common_resources.meta(context, [flag.code for flag in event_flags])
            if output := build.of_resource(provenance, meta, context.version):
                outputs.append(output)
        outputs.sort(key=lambda output: common_resources.target_order(output.key))

        bundle = build.of_bundle(outputs) if outputs else None
        shown = ShownPointers(ledger)
        flags = _shown(drafts.flags, shown)
        cuts = [cut._replace(pointer=shown(cut.pointer)) for cut in cuts]
        outcome = operation_outcome(context, flags, ledger.notable, published, shown, cuts)
        return Normalized(
            context.event_type,
            context.version,
            build.raw_key,
            tuple(outputs),
            bundle,
            build.of_resource(outcome, outcome["meta"], context.version) if outcome else None,
            tuple(refusal.with_paths(shown) for refusal in build.refusals),
            tuple(update for update in drafts.updates if update.name not in unfit),
            tuple(flags),
            ledger,
            schema_drift(ledger, shown),
            _unmapped(mapped, drafts.flags),
        )

    def _constants(self, context: Context, build: OutputBuilder) -> Iterator[Output]:
        """Yield the outputs of the vendor's Organization and the mapper's Device."""
        tenant = (context.envelope.vendor, context.envelope.tenant)
        if tenant not in self._constant_outputs:
            made = (common_resources.organization(context), common_resources.mapper_device(context))
            meta = common_resources.meta(context, (), event_independent=True)
            outputs = [build.of_resource(new.resource, meta, context.version, True) for new in made]
            valid = tuple(output for output in outputs if output)
            if len(valid) < len(made):
                yield from valid
                return
            self._constant_outputs[tenant] = valid
        for output in self._constant_outputs[tenant]:
            yield output._replace(version=context.version)


def _unfit_entries(drafts: DraftSet, invalid: set[str]) -> frozenset[str]:
    """Return the names of the state entries that hold a resource which is invalid, or needs one that is."""
    return frozenset(
        draft.entry
        for draft, _ in drafts.drafts
        if draft.entry
        and not invalid.isdisjoint((f"{draft.resource['resourceType']}/{draft.resource['id']}", *draft.needs))
    )


def _number_limited(mapped: MappingResult) -> int:
    """Count the results that the limit of resources is about: constant ones come with others, and may be equal."""
    return sum(isinstance(made, Fold) or made.strategy is not MergeStrategy.CONSTANT for made in mapped.resources)


def _shown(flags: Sequence[Flag], shown: ShownPointers) -> list[Flag]:
    """Return the flags with the part of each pointer that may be shown. Resources of one item share its flags."""
    known: dict[int, tuple[str, ...]] = {}
    for flag in flags:
        if flag.at and id(flag.at) not in known:
            known[id(flag.at)] = tuple(map(shown, flag.at))
    return [flag._replace(at=known[id(flag.at)]) if flag.at else flag for flag in flags]


def _unmapped(mapped: MappingResult, flags: Sequence[Flag]) -> tuple[tuple[str, str], ...]:
    """Return table and pointer of each unmapped word: once, however many of the event's resources it affects."""
    words = {(flag.table, pointer) for flag in flags if flag.table for pointer in flag.at or ("",)}
    words.update((table, pointer) for pointer, table in mapped.unmapped.items())
    return tuple(sorted(words))
