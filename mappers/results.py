"""The result of a mapping: resources, folds, flags and refusals; and what folding makes of them.

A mapping decides how each resource comes about (mapping.md §3.2). A `NewResource` is made whole by one event. A `Fold`
is built from state entries that several events have written. The pipeline adds everything that is the same for all
resources: meta, Provenance, Bundle, outcome, order and validation (`mappers.pipeline.normalize`).

Types of which every event makes dozens are named tuples. The others are frozen dataclasses, which cost three times as
much to make.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

Resource = dict[str, Any]
"""A FHIR resource as plain JSON, in FHIR's element order, with ``resourceType``, ``id`` and a place for ``meta``."""

Element = dict[str, Any]
"""A FHIR element (Coding, Reference, Period, …) as plain JSON.

The functions of `mappers.fhir.elements` build elements and resources. They leave out members that are absent: None,
``""``, ``[]`` and ``{}``; ``False`` and ``0`` are values and stay. An element without members is None. So a member may
be given as ``x and element(…)`` or ``listed(…)`` without a test for None. A list literal is not pruned: write
``[…]`` only for items that exist, and ``listed(…)`` for items that may be None.
"""


class MergeStrategy(Enum):
    """The way in which a `NewResource` is merged with its earlier versions (mapping.md §3.2).

    ``ONE_EVENT``: the id contains the event key, so that nothing has to be merged. ``LAST_WRITER``: the event of the
    greatest version writes it; an older event does not change it. ``CONSTANT``: every event makes the same bytes.
    """

    ONE_EVENT = "one event"
    CONSTANT = "constant"
    LAST_WRITER = "last writer"


class Flag(NamedTuple):
    """A data-quality flag of an event or of a resource (mapping.md §6). It never contains a value.

    ``code`` is a row of config/flags.yaml. ``at`` are JSON Pointers into the body, or FHIRPaths. ``table`` is the code
    table (mapping.md §12) that has no row for the words at ``at``, so that such words can be counted.
    """

    code: str
    at: tuple[str, ...] = ()
    table: str | None = None


class Flags:
    """The flags of one resource, collected while its elements are built."""

    __slots__ = ("_flags",)

    def __init__(self, *flags: Flag) -> None:
        self._flags: list[Flag] = list(flags)

    def add(self, code: str, *at: str, table: str | None = None) -> None:
        """Add a `Flag`."""
        self._flags.append(Flag(code, at, table))

    def __iter__(self) -> Any:
        return iter(self._flags)


class NewResource(NamedTuple):
    """A resource that one event makes whole. `mappers.context` has a function for each strategy.

    ``event_independent``: its meta names no single event (mapping.md §5.1). ``ai``: it gets the AI label.
    ``security``: further labels for ``meta.security``.
    """

    resource: Resource
    strategy: MergeStrategy
    flags: tuple[Flag, ...] = ()
    event_independent: bool = False
    ai: bool = False
    security: tuple[Element, ...] = ()


class Version(NamedTuple):
    """An event's place in the order of events: its time, then its event key (mapping.md §3.2, "version").

    Versions compare by ``order`` (of the instant) and ``event_key``. ``at`` is the instant's text for the header
    ``occurred-at`` and is not compared: another mapping version may write the same instant in another way.
    """

    order: tuple[int, str]
    event_key: str
    at: str = ""

    def __gt__(self, other: tuple[Any, ...]) -> bool:
        return self[:2] > other[:2]

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        return self[:2] < other[:2]

    def __ge__(self, other: tuple[Any, ...]) -> bool:
        return self[:2] >= other[:2]

    def __le__(self, other: tuple[Any, ...]) -> bool:
        return self[:2] <= other[:2]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self[:2] == other[:2]

    def __hash__(self) -> int:
        return hash(self[:2])


class Entry(NamedTuple):
    """One state entry of a subject: its value, plain JSON, and the version of the event that wrote it."""

    version: Version
    value: Any

    def stored(self) -> dict[str, Any]:
        """Return the entry as internal topics hold it: ``{"s": [seconds, fraction, event key, text], "v": value}``."""
        version = self.version
        return {"s": [*version.order, version.event_key, version.at], "v": self.value}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Entry":
        """Make an entry of the form that `stored` returns."""
        seconds, fraction, event_key, at = stored["s"]
        return cls(Version((seconds, fraction), event_key, at), stored["v"])


StateEntries = Mapping[str, Entry]
"""All state entries of one subject, by name."""


class BuiltResource(NamedTuple):
    """A resource built from state entries. ``version`` is the greatest version that contributed to it.

    ``targeted``: this event's mapping makes it, so that Provenance names it (mapping.md §5.3).
    ``event_independent``: several events contribute, so that its meta names none (mapping.md §5.1).
    ``source``: (event key, event type) for its meta, where one earlier event made it.
    ``entry``: name of the state entry that holds the resource whole, so that later events build it again. The entry is
    not stored where the resource, or one of those that it ``needs`` (``Type/id``), is invalid: they would fail, too.
    """

    resource: Resource
    version: Version
    flags: tuple[Flag, ...] = ()
    targeted: bool = True
    event_independent: bool = True
    ai: bool = False
    security: tuple[Element, ...] = ()
    source: tuple[str, str] | None = None
    entry: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fold:
    """A resource to which several events contribute (mapping.md §3.2, "fields" and "statements").

    ``subject`` is ``<ResourceType>/<id>`` and names the state. ``updates`` are the state entries that this event
    writes: name → value, plain JSON. Under each name the value of the greatest version stays, whatever order the events
    arrive in. ``build`` is a pure function of all entries after that merge; an event that writes no entry of a name
    erases nothing. It may also return what the event's Bundle needs in addition: a Fold without updates, which is a
    resource of another subject as its own state has it, and a constant `NewResource` to which the others refer. It
    returns `Refused` where this event's updates are stored but give no valid resource yet; such a Fold has no
    ``targets``. ``targets`` are the references that this event's mapping makes (Provenance targets, even where a newer
    event has already written them).

    Two events about one patient. The first sends an e-mail address and a name, the second a new name only:

    >>> def patient(entries: StateEntries) -> list[BuiltResource]:
    ...     content = {name: entries[name].value for name in sorted(entries)}
    ...     version = max(entry.version for entry in entries.values())
    ...     return [BuiltResource({"resourceType": "Patient", "id": "7", **content}, version)]
    >>> sent = {"name": [{"text": "A."}], "telecom": [{"value": "a@x.org"}]}
    >>> first = Fold("Patient/7", sent, patient, ("Patient/7",))
    >>> second = Fold("Patient/7", {"name": [{"text": "Ann"}]}, patient, ("Patient/7",))
    >>> state = {}
    >>> for fold, version in ((second, Version((20, ""), "k2")), (first, Version((10, ""), "k1"))):  # in any order
    ...     for name, value in fold.updates.items():
    ...         if name not in state or version > state[name].version:
    ...             state[name] = Entry(version, value)
    >>> [patient_7] = first.build(state)
    >>> patient_7.resource
    {'resourceType': 'Patient', 'id': '7', 'name': [{'text': 'Ann'}], 'telecom': [{'value': 'a@x.org'}]}
    >>> patient_7.version.event_key
    'k2'

    Names and values are stored in the state topic: a change of either is a change of its format.
    """

    subject: str
    updates: Mapping[str, Any]
    build: "Callable[[StateEntries], Sequence[BuiltResource | NewResource | Fold | Refused]]"
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A resource that cannot be made validly (mapping.md §1, rule 10)."""

    resource_type: str
    flag: Flag


@dataclass(frozen=True, slots=True)
class MappingResult:
    """Everything that a mapping makes of one event. `mappers.builder.MappingBuilder` makes it.

    ``resources``: in the order in which they are built. ``flags``: of the event as a whole.
    ``professional``: reference of the Practitioner who authored the content (Provenance agent, mapping.md §5.3).
    ``engine``: reference of the Device whose AI results the event contains.

    The others tell the ledger (mapping.md §1, rule 2) how values were used. `MappingBuilder` explains the rules.
    ``omitted``: JSON Pointers at or below which nothing was made of what the model has read; the ledger keeps it.
    ``claims``: pointer → treatment, in place of the model's declaration; None for a mapping that has a model.
    ``hidden_keys``: pointers at or below which keys may be data, so that schema drift shows none.
    ``unmapped``: words without a row that no flag of the event reports (`Flag.table`): pointer → code table.

    >>> result = MappingResult(
    ...     resources=(NewResource({"resourceType": "Encounter", "id": "1"}, MergeStrategy.LAST_WRITER),),
    ...     flags=(Flag("item-empty", ("/tests/0",)),),
    ...     refused=(Refused("Coverage", Flag("resource-refused", ("/policy",))),),
    ...     omitted=("/tests/0",),
    ... )
    >>> [new.resource["resourceType"] for new in result.resources]
    ['Encounter']
    >>> from fhirline.mappers.payload import Items, Payload, Text
    >>> from fhirline.mappers.pipeline.ledger import read_ledger
    >>> class Body(Payload):
    ...     tests: Items[Text] = ()
    >>> body = {"tests": ["-", "FIT"], "policy": "7"}
    >>> [(leaf.pointer, leaf.treatment) for leaf in read_ledger(body, Body.model_validate(body), result)]
    [('/tests/0', 'kept'), ('/tests/1', 'mapped'), ('/policy', 'kept')]
    """

    resources: tuple[NewResource | Fold, ...] = ()
    flags: tuple[Flag, ...] = ()
    refused: tuple[Refused, ...] = ()
    professional: str | None = None
    engine: str | None = None
    omitted: tuple[str, ...] = ()
    claims: Mapping[str, str] | None = None
    hidden_keys: tuple[str, ...] = ()
    unmapped: Mapping[str, str] = field(default_factory=dict)
