"""Azodha's tolerant reader (mapping.md §11.1): finds named fields in several places of the body.

The vendor publishes no payload, so that no model can declare fixed paths. A payload model names the fields, and the
reader looks for each of them in ``$.data.<obj>``, ``$.data``, ``$.<obj>`` and ``$``, in this order. A mapping claims
the leaves that it uses; the ledger keeps all others (`MappingBuilder.claim`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fhirline.mappers.builder import MappingBuilder
from fhirline.mappers.context import Context
from fhirline.mappers.fhir.elements import reference
from fhirline.mappers.identity import Part
from fhirline.mappers.json_pointer import escape, items_of, value_at
from fhirline.mappers.payload import Payload, is_placeholder_id
from fhirline.mappers.pipeline.envelope import Body, Envelope
from fhirline.mappers.pipeline.placeholders import PLACEHOLDER_CLAIM, placeholder_ids
from fhirline.mappers.results import Element, Flag, Flags
from fhirline.mappers.routing import id_at, read_event_time
from fhirline.mappers.times import EventTime

PATIENT_ID = ("/patientId", "/data/patientId", "/data/patient/id", "/data/appointment/patientId")
EVENT_TIME = ("timestamp", "createdAt", "occurredAt")
EVENT_NAME = ("eventName", "event")
EMPTY: tuple[object, ...] = (None, "", [], {})

Model = TypeVar("Model", bound=Payload)


def patient_id(body: Body) -> tuple[str, str] | None:
    """Return (pointer, value) of the first patient id: the partition key, and the patient (mapping.md §2)."""
    return next(((pointer, value) for pointer in PATIENT_ID if (value := id_at(body, pointer))), None)


def placeholder_patient_ids(body: Body) -> list[str]:
    """Return the pointers of patient ids that are placeholders (mapping.md §2.6)."""
    return [pointer for pointer in PATIENT_ID if is_placeholder_id(value_at(body, pointer))]


def event_name(body: Body) -> tuple[str, str] | None:
    """Return (pointer, value) of the event's name, where the body contains one (mapping.md §2)."""
    named = ((f"/{key}", body.get(key)) for key in EVENT_NAME)
    return next(((pointer, value) for pointer, value in named if isinstance(value, str) and value.strip()), None)


def event_time(envelope: Envelope) -> tuple[str, EventTime] | None:
    """Return (pointer, time) of the first event time that has a zone or is a UNIX time (mapping.md §3.3)."""
    pointers = (f"{root}/{name}" for name in EVENT_TIME for root in ("/data", ""))
    times = ((pointer, read_event_time(value_at(envelope.body, pointer), envelope.received_at)) for pointer in pointers)
    return next(((pointer, time) for pointer, time in times if time), None)


@dataclass(frozen=True, slots=True)
class Found(Generic[Model]):
    """A model with fields from several places. ``at`` is the JSON Pointer, ``raw`` the JSON of each field found."""

    model: Model
    at: Mapping[str, str]
    raw: Mapping[str, Any]

    def leaves(self, *names: str) -> Iterator[str]:
        """Iterate over the pointers of the leaves that the model could read, of fields ``names`` (default: all)."""
        for name in names or self.at:
            if name in self.at:
                yield from _read_leaves(self.raw[name], getattr(self.model, name), self.at[name])


class Reader:
    """Finds the fields of one event, and names the resources of its patient.

    Placeholders that it reads in place of ids are claimed in ``build``.
    """

    def __init__(self, context: Context, build: MappingBuilder) -> None:
        self.context = context
        self._build = build
        self._patient = patient_id(context.envelope.body)
        build.claim(PLACEHOLDER_CLAIM, *placeholder_patient_ids(context.envelope.body))

    # -- finding

    def places(self, *objects: str, bare: bool = True) -> list[str]:
        """Return the pointers of the objects in which to look for a field, in order; ``bare``: the roots too."""
        ordered = [place for root in ("/data", "") for place in (*(f"{root}/{name}" for name in objects), root)]
        wanted = (place for place in ordered if bare or place not in ("/data", ""))
        return [place for place in wanted if isinstance(self.context.raw(place), dict)]

    def within(self, places: Sequence[str], name: str) -> list[str]:
        """Return the places, each behind the object ``name`` that it may contain."""
        deeper = (place for outer in places for place in (f"{outer}/{name}", outer))
        return [place for place in deeper if isinstance(self.context.raw(place), dict)]

    def find(self, model: type[Model], places: Sequence[str]) -> Found[Model]:
        """Read each field of ``model`` from the first place where it is readable."""
        content: dict[str, Any] = {}
        at: dict[str, str] = {}
        raw: dict[str, Any] = {}
        for place in places:
            sent = self.context.raw(place)
            read = model.model_validate(sent)
            self._build.claim(PLACEHOLDER_CLAIM, *placeholder_ids(sent, read, place))
            for name in model.model_fields:
                value = getattr(read, name)
                if name not in at and _has_content(value):
                    content[name], at[name], raw[name] = value, f"{place}/{name}", sent[name]
        constructed: Any = model.model_construct(**content)
        return Found(constructed, at, raw)

    def locate(self, name: str, places: Sequence[str]) -> str | None:
        """Return the pointer of the first value of any kind under ``name``."""
        return next((f"{place}/{name}" for place in places if self.context.raw(f"{place}/{name}") not in EMPTY), None)

    # -- the patient

    @property
    def patient_id(self) -> str | None:
        """Return the patient's id; None where the event names no patient."""
        return self._patient[1] if self._patient else None

    @property
    def patient_id_at(self) -> str | None:
        """Return the JSON Pointer of the patient's id."""
        return self._patient[0] if self._patient else None

    @property
    def patient_reference(self) -> str:
        """Return the reference ``Patient/<id>``; only where there is a `patient_id`."""
        return self.context.reference("Patient", "patient", self.patient_id)

    @property
    def subject(self) -> Element | None:
        """Return a Reference to the Patient; only where there is a `patient_id`."""
        return reference(self.patient_reference)

    def key(self, *parts: Part) -> tuple[Part, ...]:
        """Return the key parts of a resource of the patient (mapping.md §4.1)."""
        return (self.patient_id, *parts)

    # -- flags

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """Return the flag codes of an event type whose payload the tenant has not confirmed (mapping.md §11.1)."""
        confirmed = self.context.event_type in self.context.settings.payload_confirmed
        return () if confirmed else ("schema-unconfirmed",)

    def flags(self) -> Flags:
        """Return the flags with which every resource of the event begins."""
        return Flags(*map(Flag, self.unconfirmed))


def _read_leaves(raw: Any, read: Any, pointer: str) -> Iterator[str]:
    """Iterate over the pointers of the leaves of ``raw`` that the model ``read`` could read."""
    if isinstance(read, Payload) and isinstance(raw, dict):
        for name in type(read).model_fields:
            if name in raw:
                yield from _read_leaves(raw[name], getattr(read, name), f"{pointer}/{escape(name)}")
    elif isinstance(read, tuple):
        for (place, item), model in zip(items_of(raw, pointer), read, strict=False):
            yield from _read_leaves(item, model, place)
    elif read is not None:
        yield pointer


def _has_content(value: Any) -> bool:
    return any(item is not None for item in value) if isinstance(value, tuple) else value is not None
