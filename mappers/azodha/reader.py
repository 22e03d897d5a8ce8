"""Azodha's tolerant reader (mapping.md §11.1): finds named fields in several places, and remembers where.

The vendor publishes no payload, so that no model can name fixed paths. A payload model still names the fields; the
reader looks for each of them in turn in ``$.data.<obj>``, ``$.data``, ``$.<obj>`` and ``$``. What a mapping uses it
claims, leaf by leaf: the event's ledger is made of these claims, and whatever nobody claimed is kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter

from fhirline.config.terminology import Row
from fhirline.mappers.answers import secret_leaf
from fhirline.mappers.context import Context
from fhirline.mappers.identity import Part
from fhirline.mappers.instants import Instant
from fhirline.mappers.json_pointer import escape, leaves_of
from fhirline.mappers.payload import Payload, Text
from fhirline.mappers.pipeline.envelope import Body
from fhirline.mappers.results import Element, Flag, Flags, Fold, MappingResult, NewResource, Refused

PATIENT_ID = ("/patientId", "/data/patientId", "/data/patient/id", "/data/appointment/patientId")
EVENT_TIME = ("timestamp", "createdAt", "occurredAt")
EVENT_NAME = ("eventName", "event")

Model = TypeVar("Model", bound=Payload)
_TEXT: TypeAdapter[str | None] = TypeAdapter(Text, config=ConfigDict(coerce_numbers_to_str=True))


def text_at(body: Body, pointer: str) -> str | None:
    """The text (or number) at a pointer without escapes or list positions."""
    value: Any = body
    for key in pointer.split("/")[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return _TEXT.validate_python(value)


def patient_id(body: Body) -> tuple[str, str] | None:
    """(pointer, value) of the first patient id that is sent: the compartment's key, and the patient (mapping.md §2)."""
    return next(((pointer, value) for pointer in PATIENT_ID if (value := text_at(body, pointer))), None)


def event_name(body: Body) -> tuple[str, str] | None:
    """(pointer, value) of the event's name, where the body holds one (mapping.md §2)."""
    named = ((f"/{key}", body.get(key)) for key in EVENT_NAME)
    return next(((place, value) for place, value in named if isinstance(value, str) and value.strip()), None)


def event_time(body: Body) -> tuple[str, Instant] | None:
    """(pointer, instant) of the first event time with a zone (mapping.md §3.3)."""
    pointers = (f"{root}/{name}" for name in EVENT_TIME for root in ("/data", ""))
    return next(((place, sent) for place in pointers if (sent := Instant.parse(text_at(body, place)))), None)


@dataclass(frozen=True, slots=True)
class Found(Generic[Model]):
    """A model put together from several places; ``at`` is the pointer of each field that was found."""

    model: Model
    at: Mapping[str, str]


class Reader:
    """One event being read: finds its fields, and collects what became of them."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.claims: dict[str, str] = {}
        self.keyed: list[str] = []
        self.remarks: list[Flag] = []
        self.unmapped: dict[str, str] = {}
        self._patient = patient_id(context.envelope.body)

    # -- finding

    def places(self, *objects: str, bare: bool = True) -> list[str]:
        """Pointers of the objects in which a field is looked for, first come first; ``bare`` with the roots."""
        ordered = [place for root in ("/data", "") for place in (*(f"{root}/{name}" for name in objects), root)]
        wanted = (place for place in ordered if bare or place not in ("/data", ""))
        return [place for place in wanted if isinstance(self.context.raw(place), dict)]

    def within(self, places: Sequence[str], name: str) -> list[str]:
        """The places, each behind the object ``name`` that it may hold."""
        deeper = (place for outer in places for place in (f"{outer}/{name}", outer))
        return [place for place in deeper if isinstance(self.context.raw(place), dict)]

    def find(self, model: type[Model], places: Sequence[str]) -> Found[Model]:
        """Each field of ``model`` from the first place where it can be read as what it should be."""
        content: dict[str, Any] = {}
        at: dict[str, str] = {}
        for place in places:
            read = model.model_validate(self.context.raw(place))
            for name in model.model_fields:
                value = getattr(read, name)
                if name not in at and _says_something(value):
                    content[name], at[name] = value, f"{place}/{name}"
        constructed: Any = model.model_construct(**content)
        return Found(constructed, at)

    def locate(self, name: str, places: Sequence[str]) -> str | None:
        """Pointer of the first value of any kind under ``name``."""
        return next((f"{place}/{name}" for place in places if self.context.raw(f"{place}/{name}") not in _EMPTY), None)

    # -- claiming (mapping.md §1, rule 2)

    def claim(self, treatment: str, *pointers: str | None) -> None:
        """What becomes of a leaf, or of all below a pointer: ``mapped §11.4``, ``withheld §7``, …"""
        self.claims.update((pointer, treatment) for pointer in pointers if pointer is not None)

    def mapped(self, found: Found[Any], paragraph: str, *names: str) -> None:
        """Claim fields of what was found (all, where none is named), as far as the model could read them."""
        for name in names or found.at:
            if name in found.at:
                pointer = found.at[name]
                read = getattr(found.model, name)
                self.claim(f"mapped {paragraph}", *read_leaves(self.context.raw(pointer), read, pointer))

    def keep(self, pointer: str, paragraph: str) -> list[Element]:
        """``source-data`` of every leaf at or below a pointer; what looks like a secret is left to the ledger."""
        kept = []
        self.keyed.append(pointer)
        for place, value in leaves_of(self.context.raw(pointer), pointer):
            blank = value in _EMPTY or (isinstance(value, str) and value.isspace())
            if not blank and not secret_leaf(place, value):
                self.claim(f"kept {paragraph}", place)
                kept.append(self.context.source_data(place, value))
        return kept

    def row(self, table: str, words: str | None, pointer: str | None) -> Row | None:
        """The row of a code table for the words at a pointer; words without one are counted (mapping.md §12)."""
        row = self.context.terminology.row(table, words)
        if words is not None and row is None:
            self.unmapped[pointer or ""] = table
        return row

    def remark(self, code: str, *at: str) -> None:
        """A flag of the event as a whole."""
        self.remarks.append(Flag(code, at))

    # -- the patient

    @property
    def patient_id(self) -> str | None:
        return self._patient[1] if self._patient else None

    @property
    def patient_id_at(self) -> str:
        return self._patient[0] if self._patient else ""

    @property
    def patient(self) -> str:
        """Reference of the Patient; only where there is a `patient_id`."""
        return self.context.reference("Patient", "patient", self.patient_id)

    def key(self, *parts: Part) -> tuple[Part, ...]:
        """Key parts of a resource in the patient's compartment (mapping.md §4.1)."""
        return (self.patient_id, *parts)

    # -- the result

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """The flag of every resource of an event type whose payload the tenant has not confirmed (mapping.md §11.1)."""
        confirmed = self.context.event_type in self.context.settings.payload_confirmed
        return () if confirmed else ("schema-unconfirmed",)

    def flags(self) -> Flags:
        """Flags of a new resource."""
        return Flags(*map(Flag, self.unconfirmed))

    def result(
        self, made: Sequence[NewResource | Fold], refused: Sequence[Refused] = (), *flags: Flag
    ) -> MappingResult:
        """All that the event says. Where nothing is made nothing was mapped, whatever was read."""
        body = self.context.envelope.body
        if not made:
            self.claims = {place: what for place, what in self.claims.items() if not what.startswith("mapped")}
        elif sent := event_time(body):
            self.claim("mapped §3.3", sent[0])
        if (name := event_name(body)) and name[1] == self.context.event_type:
            self.claim("mapped §2", name[0])
        return MappingResult(
            resources=tuple(made),
            flags=(*map(Flag, self.unconfirmed), *self.remarks, *flags),
            refused=tuple(refused),
            hidden_keys=tuple(self.keyed),
            claims=dict(self.claims),
            unmapped=self.unmapped,
        )


def read_leaves(raw: Any, read: Any, pointer: str) -> Iterator[str]:
    """Pointers of the leaves of ``raw`` that the model ``read`` could make something of."""
    if isinstance(read, Payload) and isinstance(raw, dict):
        for name in type(read).model_fields:
            if name in raw:
                yield from read_leaves(raw[name], getattr(read, name), f"{pointer}/{escape(name)}")
    elif isinstance(read, tuple) and isinstance(raw, list):
        for position, (item, model) in enumerate(zip(raw, read, strict=True)):
            yield from read_leaves(item, model, f"{pointer}/{position}")
    elif isinstance(read, tuple):
        yield from read_leaves(raw, read[0] if read else None, pointer)
    elif read is not None:
        yield pointer


_EMPTY: tuple[object, ...] = (None, "", [], {})


def _says_something(value: Any) -> bool:
    return any(item is not None for item in value) if isinstance(value, tuple) else value is not None
