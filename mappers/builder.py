"""`MappingBuilder`: collects what a mapping makes of one event, and returns it as a `MappingResult`."""

from collections.abc import Iterator, Mapping
from functools import cache

from fhirline.config import tables
from fhirline.mappers.results import Flag, Fold, MappingResult, NewResource, Refused

WHOLE_EVENT = ""
"""JSON Pointer of the whole body."""

EVENT_TYPE_READ = "mapped §2"
"""Claim of the field that holds the event's type. It holds also where no resource is made."""


class MappingBuilder:
    """Collect the resources, refusals and flags of one event, and how the values that were sent were used.

    Every event function creates one, calls `add`, `refuse`, `flag`, `omit` or `claim`, and returns `result`.

    The ledger (mapping.md §1, rule 2) needs to know how each leaf of the body was used. By default, a field of the
    payload model counts as *mapped*. The builder records the exceptions:

    * `omit`: nothing was made of the values at or below a pointer. The ledger keeps them, and the pipeline puts them on
      the event's Provenance as ``source-data`` (`Leaf.unplaced`).
    * A flag with ``omits: true`` in config/flags.yaml omits the pointers that it names. This holds for the event's own
      flags and for the flags of each `NewResource`, but not for those that the function of a `Fold` sets later.
    * An event that makes no resource omits its whole body.
    * A field that the model annotates with a `Rule` has the treatment of the rule and needs no call. ``kept`` means
      that the mapping has written the value into an extension. ``withheld`` holds below an omitted pointer too.

    >>> from typing import Annotated
    >>> from fhirline.mappers.context import one_event
    >>> from fhirline.mappers.payload import Items, Payload, Text
    >>> from fhirline.mappers.pipeline.ledger import Rule, read_ledger
    >>> class Test(Payload):
    ...     name: Text = None
    >>> class Visit(Payload):
    ...     reason: Text = None
    ...     color: Text = None
    ...     tests: Items[Test] = ()
    ...     package: Annotated[Text, Rule("kept", "§9.2.4")] = None
    ...     room: Annotated[Text, Rule("withheld", "§7")] = None
    >>> body = {
    ...     "reason": "Cough", "color": "blue", "tests": [{"name": "-"}], "package": "box", "room": "r", "mood": "good"
    ... }
    >>> build = MappingBuilder()
    >>> build.add(one_event({"resourceType": "Encounter", "id": "1", "reasonCode": [{"text": "Cough"}]}))
    >>> build.flag("item-empty", "/tests/0")  # omits /tests/0
    >>> build.omit("/color")
    >>> result = build.result()
    >>> result.omitted
    ('/color', '/tests/0')
    >>> for leaf in read_ledger(body, Visit.model_validate(body), result):
    ...     print(leaf.pointer, leaf.treatment, "on the Provenance" if leaf.unplaced else "-")
    /reason mapped -
    /color kept on the Provenance
    /tests/0/name kept on the Provenance
    /package kept -
    /room withheld -
    /mood kept on the Provenance

    A mapping whose payload has no fixed paths (Azodha), or that reads parts of it leaf by leaf (Infermedica), calls
    `claim` for each value that it uses. From the first claim on, the model declares nothing: a leaf that is not claimed
    is kept, so that `omit` has no effect.

    >>> build = MappingBuilder()
    >>> build.add(one_event({"resourceType": "Appointment", "id": "1", "status": "booked"}))
    >>> build.claim("mapped §11.4", "/data/status")
    >>> build.claim("withheld §7", "/data/room")
    >>> body = {"data": {"status": "BOOKED", "room": {"url": "r-7"}, "floor": 4}}
    >>> [(leaf.pointer, leaf.treatment) for leaf in read_ledger(body, None, build.result())]
    [('/data/status', 'mapped'), ('/data/room/url', 'withheld'), ('/data/floor', 'kept')]
    """

    __slots__ = ("_claims", "_flags", "_hidden_keys", "_omitted", "_refused", "_resources", "_unmapped")

    def __init__(self) -> None:
        self._resources: list[NewResource | Fold] = []
        self._refused: list[Refused] = []
        self._flags: list[Flag] = []
        self._omitted: list[str] = []
        self._claims: dict[str, str] | None = None
        self._hidden_keys: list[str] = []
        self._unmapped: dict[str, str] = {}

    def add(self, *resources: NewResource | Fold | None) -> None:
        """Add resources, in the order in which they are to be built. None is skipped."""
        self._resources.extend(resource for resource in resources if resource is not None)

    def refuse(self, resource_type: str, code: str, *at: str) -> None:
        """Refuse a resource that cannot be made validly (mapping.md §1, rule 10).

        ``code`` is a row of config/flags.yaml; ``at`` are JSON Pointers of the values that are missing or unusable.
        """
        self._refused.append(Refused(resource_type, Flag(code, at)))

    def flag(self, code: str, *at: str, table: str | None = None) -> None:
        """Add a flag of the event as a whole (mapping.md §6): ``code``, ``at`` and ``table`` as `Flag` has them."""
        self._flags.append(Flag(code, at, table))

    def omit(self, *pointers: str) -> None:
        """Record that nothing was made of the values at or below JSON Pointers, although the model has read them."""
        self._omitted.extend(pointers)

    def claim(self, treatment: str, *pointers: str | None) -> None:
        """Record how the values at or below JSON Pointers were used; None is skipped.

        ``treatment`` is one of mapped, kept, withheld and ignored, then the paragraph: ``mapped §11.4``. A later claim
        of the same pointer replaces an earlier one.
        """
        if self._claims is None:
            self._claims = {}
        for pointer in pointers:
            if pointer is not None:
                self._claims[pointer] = treatment

    def absorb(self, other: "MappingBuilder", claims: bool = True) -> None:
        """Add what another builder recorded of values: hidden keys, unmapped words and, with ``claims``, its claims."""
        self._hidden_keys.extend(other._hidden_keys)
        self._unmapped.update(other._unmapped)
        if claims:
            for pointer, treatment in (other._claims or {}).items():
                self.claim(treatment, pointer)

    def hide_keys(self, *pointers: str) -> None:
        """Hide the keys at or below JSON Pointers from schema drift, where they may be data (names of persons, say)."""
        self._hidden_keys.extend(pointers)

    def count_unmapped(self, table: str, pointer: str) -> None:
        """Count words without a row in a code table (mapping.md §12) that no `Flag` with ``table`` reports."""
        self._unmapped[pointer] = table

    @property
    def added_types(self) -> set[str]:
        """Return the resource types of everything that was added."""
        return {_resource_type(resource) for resource in self._resources}

    @property
    def refused_types(self) -> set[str]:
        """Return the resource types of everything that was refused."""
        return {refused.resource_type for refused in self._refused}

    @property
    def unmapped(self) -> Mapping[str, str]:
        """Return everything that `count_unmapped` recorded: JSON Pointer → code table."""
        return self._unmapped

    def result(self, professional: str | None = None, engine: str | None = None) -> MappingResult:
        """Return the `MappingResult`; ``professional`` and ``engine`` as it describes them."""
        omitted, claims = (*self._omitted, *self._omitted_by_flags()), self._claims
        if not self._resources and claims is None:
            omitted = (WHOLE_EVENT,)
        elif not self._resources and claims is not None:
            claims = {pointer: claim for pointer, claim in claims.items() if not _needs_resource(claim)}
        return MappingResult(
            resources=tuple(self._resources),
            flags=tuple(self._flags),
            refused=tuple(self._refused),
            professional=professional,
            engine=engine,
            omitted=omitted,
            hidden_keys=tuple(self._hidden_keys),
            claims=claims,
            unmapped=self._unmapped,
        )

    def _omitted_by_flags(self) -> Iterator[str]:
        omitting = _omitting_codes()
        for flag in self._all_flags():
            if flag.code in omitting:
                yield from flag.at

    def _all_flags(self) -> Iterator[Flag]:
        yield from self._flags
        for resource in self._resources:
            if isinstance(resource, NewResource):
                yield from resource.flags


@cache
def _omitting_codes() -> frozenset[str]:
    """Return the codes of the flags whose pointers name values that were not used."""
    return frozenset(code for code, definition in tables.flags().flags.items() if definition.omits)


def _needs_resource(claim: str) -> bool:
    """Tell whether a claim holds only if a resource is made."""
    return claim.startswith("mapped") and claim != EVENT_TYPE_READ


def _resource_type(resource: NewResource | Fold) -> str:
    if isinstance(resource, Fold):
        return resource.subject.partition("/")[0]
    return str(resource.resource["resourceType"])
