"""One event and what is remembered, in; resources, Bundle, outcome and what to remember, out. Pure.

The pipeline that is the same for every vendor: find the mapping, map, fold with state, put meta on, validate, add
Provenance and Bundle. Called by the worker, by replay and by ``fhirline map``; nothing here knows which.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from config.terminology import Terminology
from config.vendors import Vendors
from mappers import standing
from mappers.context import Context
from mappers.contract import Element, Entry, Feeding, Flag, Fold, Folded, Made, Mapped, Registers, Resource, Stamp
from mappers.envelope import Envelope
from mappers.fhir.narratives import identifiers, narrated
from mappers.fhir.validation import Problem, Validator
from mappers.identity import Naming
from mappers.instants import Instant
from mappers.ledger import Ledger, drift, read_ledger
from mappers.outcome import operation_outcome
from mappers.payload import Payload
from mappers.registry import partition_key, vendor_mapping

OWN_PARTITION = frozenset({"Practitioner", "Organization", "Device", "Schedule", "Slot"})
"""Types that belong to no patient and are partitioned by their own key (mapping.md §2)."""

UNKNOWN = "unknown"
"""Event type of headers and tags where the payload's own is not a known one: payload text goes nowhere."""

Remembered = Callable[[str], Registers]
"""State of a subject: register name → entry; empty where nothing is known."""


@dataclass(frozen=True, slots=True)
class Output:
    """A resource ready to leave. ``key`` is ``Type/id``; ``partition_by`` what its partition is computed from.

    ``constant``: may be left out of its per-type topic where the same bytes have gone out before (mapping.md §3.1).
    """

    resource: Resource
    key: str
    value: bytes
    partition_by: str
    stamp: Stamp
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """One register to remember: written to the state topic, merged by greatest stamp."""

    subject: str
    register: str
    entry: Entry


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
    stamp: Stamp
    outputs: tuple[Output, ...]
    bundle: Output | None
    outcome: Output | None
    refusals: tuple[Refusal, ...]
    statements: tuple[Statement, ...]
    flags: tuple[Flag, ...]
    ledger: Ledger
    drift: tuple[str, ...] = ()
    """Paths of which no rule speaks (`mappers.ledger.drift`)."""
    unmapped: tuple[str, ...] = ()
    """The code table of each of the event's words that has no row in it (mapping.md §12), sorted."""


@dataclass(frozen=True, slots=True)
class Normalizer:
    """The pure core with its configuration bound."""

    vendors: Vendors
    naming: Naming
    terminology: Terminology
    validate: Validator

    def __call__(self, envelope: Envelope, remembered: Remembered) -> Normalized:
        received = f"Event/{envelope.event_key}"
        if first := remembered(received).get("received"):
            envelope = envelope.received_first(Instant(first.stamp.at, first.stamp.order))
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
            mapped, model = Mapped(flags=(Flag("not-supported"),)), None
        else:
            model = mapping.model.model_validate(envelope.body)
            mapped = mapping.map(model, context)
        statements = []
        if context.time.from_received and mapped.made:
            entry = Entry(Stamp(envelope.received_at.order, envelope.event_key, envelope.received_at.text), None)
            statements.append(Statement(received, "received", entry))
        return _assembled(self, context, mapped, model, remembered, statements)


@dataclass(slots=True)
class _Drafts:
    """What an event's mapping and its folds have made, before meta, validation and Provenance."""

    drafts: list[tuple[Folded, bool]]  # (resource, constant)
    targets: list[str]
    flags: list[Flag]
    statements: list[Statement]


def _assembled(
    normalizer: Normalizer,
    context: Context,
    mapped: Mapped,
    model: Payload | None,
    remembered: Remembered,
    statements: list[Statement],
) -> Normalized:
    patient_partition = partition_key(context.envelope)
    event_flags = [*(Flag(code) for code in context.time.flags if mapped.made), *mapped.flags]
    refusals = [Refusal("resource-refused", each.resource_type, ()) for each in mapped.refused]
    collected = _Drafts([], [], [*event_flags, *(each.flag for each in mapped.refused)], statements)
    if mapped.made:
        for made in (standing.organization(context), standing.mapper_device(context), *mapped.made):
            _collect(context, made, remembered, collected)

    outputs: list[Output] = []
    invalid: set[str] = set()
    patients = identifiers(draft.resource for draft, _ in collected.drafts) if context.settings.narratives else {}

    def dressed(resource: Resource, meta: Element) -> Resource:
        """With meta and, where the tenant wants them, the narrative that follows from all of it (mapping.md §13)."""
        resource["meta"] = meta
        return narrated(resource, patients) if context.settings.narratives else resource

    def leave(
        resource: Resource, stamp: Stamp, constant: bool = False, checked: Resource | None = None
    ) -> Output | None:
        """Validate and serialize; an invalid resource becomes a refusal, the rest of the event goes on."""
        key = f"{resource['resourceType']}/{resource['id']}"
        if problems := normalizer.validate(checked or resource):
            refusals.append(Refusal("resource-invalid", resource["resourceType"], tuple(problems)))
            collected.flags.append(Flag("resource-invalid", tuple(problem.path for problem in problems)))
            invalid.add(key)
            return None
        by = key if resource["resourceType"] in OWN_PARTITION else patient_partition
        return Output(resource, key, orjson.dumps(resource), by, stamp, constant)

    for draft, constant in collected.drafts:
        meta = standing.meta(
            context,
            [flag.code for flag in draft.flags],
            shared=draft.shared,
            ai=draft.ai,
            security=draft.security,
            source=draft.source,
        )
        if output := leave(dressed(draft.resource, meta), draft.stamp, constant):
            outputs.append(output)

    ledger = read_ledger(context.envelope.body, model, mapped)
    targets = sorted(set(collected.targets) - invalid, key=standing.target_order)
    published = bool(outputs and targets)
    if published:
        homeless = [context.source_data(leaf.pointer, leaf.value) for leaf in ledger.remarks if leaf.homeless]
        provenance = standing.provenance(context, targets, homeless, mapped.professional, mapped.engine)
        meta = standing.meta(context, [flag.code for flag in event_flags])
        if output := leave(dressed(provenance, meta), context.stamp):
            outputs.append(output)
    outputs.sort(key=lambda each: standing.target_order(each.key))

    bundle = None
    if outputs:
        made_bundle = standing.bundle(context, [(each.key, each.value) for each in outputs])
        bundle = leave(made_bundle, context.stamp, checked=standing.without_resources(made_bundle))
    outcome = operation_outcome(context, collected.flags, ledger.remarks, published)
    return Normalized(
        context.event_type,
        context.stamp,
        tuple(outputs),
        bundle,
        leave(dressed(outcome, outcome["meta"]), context.stamp) if outcome else None,
        tuple(refusals),
        tuple(collected.statements),
        tuple(collected.flags),
        ledger,
        drift(ledger.remarks),
        _unmapped(mapped, collected.flags),
    )


def _unmapped(mapped: Mapped, flags: Sequence[Flag]) -> tuple[str, ...]:
    """A word counts once, however many resources of the event it stands in."""
    places = {(flag.table, place) for flag in flags if flag.table for place in flag.at or ("",)}
    places.update((table, pointer) for pointer, table in mapped.unmapped.items())
    return tuple(sorted(table for table, _ in places))


def _collect(context: Context, made: Made | Fold, remembered: Remembered, into: _Drafts) -> None:
    """Fold one resource with what is remembered (mapping.md §3.2) and add what goes out to the drafts."""
    if isinstance(made, Fold):
        registers, statements = _merged(made, context.stamp, remembered(made.subject))
        into.statements.extend(statements)
        built = made.build(registers)
        fresh = {f"{each.resource['resourceType']}/{each.resource['id']}" for each in built}
        for each in built:
            key = f"{each.resource['resourceType']}/{each.resource['id']}"
            last = None if each.targeted else remembered(key).get("stamp")
            if last and last.stamp > each.stamp:  # carried along, and written anew by a later event
                into.flags.append(Flag("stale-event", (key,)))
            else:
                into.drafts.append((each, False))
        into.targets.extend(made.makes)
        into.flags.extend(flag for each in built if each.targeted for flag in each.flags)
        if stale := tuple(each for each in made.makes if each not in fresh):
            into.flags.append(Flag("stale-event", stale))
        return
    key = f"{made.resource['resourceType']}/{made.resource['id']}"
    into.targets.append(key)
    if made.feeding is Feeding.LAST_WRITER:
        last = remembered(key).get("stamp")
        if last and last.stamp > context.stamp:
            into.flags.append(Flag("stale-event", (key,)))
            return
        into.statements.append(Statement(key, "stamp", Entry(context.stamp, None)))
    into.flags.extend(made.flags)
    folded = Folded(made.resource, context.stamp, made.flags, shared=made.shared, ai=made.ai, security=made.security)
    into.drafts.append((folded, made.feeding is Feeding.CONSTANT))


def _merged(fold: Fold, stamp: Stamp, known: Registers) -> tuple[Registers, list[Statement]]:
    """What the event says, merged into what is known: per register the greatest stamp wins.

    A register that the event wins is written again even where it is known with the same stamp: the memory it is known
    from may be ahead of what is durable (state.md).
    """
    merged: dict[str, Entry] = dict(known)
    statements = []
    for register, value in fold.says.items():
        last = known.get(register)
        if last is None or not last.stamp > stamp:
            merged[register] = Entry(stamp, value)
            statements.append(Statement(fold.subject, register, merged[register]))
    return merged, statements


class Memory:
    """Remembered state in a dict: for ``fhirline map``, for tests, for the cache of a partition."""

    def __init__(self) -> None:
        self._subjects: dict[str, dict[str, Entry]] = {}

    def __call__(self, subject: str) -> Mapping[str, Entry]:
        return self._subjects.get(subject, {})

    def remember(self, statements: Sequence[Statement]) -> None:
        """Merge statements: per register the greatest stamp wins, in whatever order they come."""
        for each in statements:
            registers = self._subjects.setdefault(each.subject, {})
            last = registers.get(each.register)
            if last is None or not last.stamp > each.entry.stamp:
                registers[each.register] = each.entry
