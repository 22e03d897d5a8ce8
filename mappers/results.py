"""What a mapping returns, and what folding makes of it.

A mapping says of each resource *how it comes about* (mapping.md §3.2): `NewResource` once and whole by this event, or
as a `Fold` over statements that several events have made. Everything else (meta, Provenance, Bundle, outcome, order,
validation) is the same for all and is added by `mappers.pipeline.normalize`.

What every event makes by the dozen is a named tuple, the rest frozen dataclasses: those cost three times as much.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

Resource = dict[str, Any]
Element = dict[str, Any]


class MergeStrategy(Enum):
    """How many events feed a resource (mapping.md §3.2)."""

    ONE_EVENT = "one event"
    CONSTANT = "constant"
    LAST_WRITER = "last writer"


class Flag(NamedTuple):
    """A data-quality remark: ``code`` is a row of config/flags.yaml, ``at`` JSON Pointers or FHIRPath; no value.

    ``table`` is the code table (mapping.md §12) that has no row for the words at ``at``, so that they can be counted.
    """

    code: str
    at: tuple[str, ...] = ()
    table: str | None = None


class Flags:
    """Collects the flags of one resource while its elements are built."""

    __slots__ = ("_flags",)

    def __init__(self, *flags: Flag) -> None:
        self._flags: list[Flag] = list(flags)

    def add(self, code: str, *at: str, table: str | None = None) -> None:
        self._flags.append(Flag(code, at, table))

    def __iter__(self) -> Any:
        return iter(self._flags)


class NewResource(NamedTuple):
    """A resource that this event makes whole.

    ``shared``: its meta names no single event (mapping.md §5.1). ``ai`` puts the AI label on it.
    """

    resource: Resource
    strategy: MergeStrategy
    flags: tuple[Flag, ...] = ()
    event_independent: bool = False
    ai: bool = False
    security: tuple[Element, ...] = ()


class Version(NamedTuple):
    """When and by which event something was said; the greater one wins (mapping.md §3.2).

    ``order`` is the instant's; ``at`` its text, as it goes into the header ``occurred-at``. The text never decides:
    another mapping may write the same instant otherwise, and what it says of the event must replace what was said.
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
    """One register of a subject's state: the value of greatest version, or one statement of a grow-only set."""

    version: Version
    value: Any


StateEntries = Mapping[str, Entry]
"""All that is remembered of one subject, by register name."""


class BuiltResource(NamedTuple):
    """A resource as it follows from the registers; ``version`` is the greatest that contributed.

    ``targeted``: the event's own mapping makes it, so that Provenance names it (mapping.md §5.3).
    ``shared``: fed by several events, so that its meta names none (mapping.md §5.1).
    """

    resource: Resource
    version: Version
    flags: tuple[Flag, ...] = ()
    targeted: bool = True
    event_independent: bool = True
    ai: bool = False
    security: tuple[Element, ...] = ()
    source: tuple[str, str] | None = None
    """For resources that are not shared but kept in state: (event key, event type) that made them."""


@dataclass(frozen=True, slots=True)
class Fold:
    """A subject fed by several events: what this one says (``updates``: register → value), and how all of it reads.

    ``build`` is a pure function of the merged registers. ``subject`` is ``<ResourceType>/<id>``.
    ``targets`` are the references that this event's own mapping makes (targets of Provenance, even where stale).
    """

    subject: str
    updates: Mapping[str, Any]
    build: Callable[[StateEntries], Sequence[BuiltResource]]
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A resource that cannot be made validly (mapping.md §1, rule 10)."""

    resource_type: str
    flag: Flag


@dataclass(frozen=True, slots=True)
class MappingResult:
    """All that one event says.

    ``omitted``: JSON Pointers below which nothing was mapped although the model knows the fields (an item without a
    name, say); the ledger keeps those leaves. ``kept``: pointers whose values the mapping itself put into a
    ``source-data`` or ``source-value`` extension. ``withheld`` and ``ignored``: pointers treated so by a rule.
    """

    made: tuple[NewResource | Fold, ...] = ()
    flags: tuple[Flag, ...] = ()
    refused: tuple[Refused, ...] = ()
    professional: str | None = None
    """Reference of the Practitioner who authored the event's content (Provenance agent, mapping.md §5.3)."""
    engine: str | None = None
    """Reference of the Device whose AI results the event carries."""
    omitted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    keyed: tuple[str, ...] = ()
    """With ``claims``: pointers of what is read whole, whatever its keys are. They may be data: drift shows none."""
    claims: "Mapping[str, str] | None" = None
    """For readers without fixed paths (Azodha): pointer → treatment, instead of the model's own declaration."""
    unmapped: "Mapping[str, str]" = field(default_factory=dict)
    """Words that have no row and that no flag of the event tells (`Flag.table`): pointer → code table."""
