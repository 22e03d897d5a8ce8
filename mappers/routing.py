"""Routing of an event by JSON Pointers: its type, its patient key and its time (mapping.md §2, §3.3).

A vendor whose bodies have these three values at fixed places declares them with `type_at`, `patient_at` and `time_at`.
Each takes one or more pointers and uses the first one that leads to a usable value.

>>> type_at("/event")({"event": "visit_completed"}, None)
'visit_completed'
>>> patient_at("/patient/id", "/patient_id")({"patient_id": 77.0})
('77',)
>>> patient_at("/patient/id")({"patient": {"id": " "}}) is None
True
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

from pydantic import ConfigDict, TypeAdapter

from fhirline.mappers.instants import Instant
from fhirline.mappers.json_pointer import value_at
from fhirline.mappers.payload import Id, Number, Shortest
from fhirline.mappers.pipeline.envelope import Body, Envelope
from fhirline.mappers.times import TIMESTAMP_INVALID, EventTime, event_time, sent_event_time

_TEXT: TypeAdapter[str | None] = TypeAdapter(Shortest, config=ConfigDict(coerce_numbers_to_str=True))
_ID: TypeAdapter[str | None] = TypeAdapter(Id, config=ConfigDict(coerce_numbers_to_str=True))
_NUMBER: TypeAdapter[Decimal | None] = TypeAdapter(Number)


def text_at(body: Body, *pointers: str) -> str | None:
    """Return the first text or number at the pointers, as `payload.Shortest` reads it; None where there is none."""
    return next(_read(_TEXT, body, pointers), None)


def id_at(body: Body, *pointers: str) -> str | None:
    """Return the first id at the pointers, as `payload.Id` reads it; None where there is none."""
    return next(_read(_ID, body, pointers), None)


def _read(adapter: TypeAdapter[str | None], body: Body, pointers: Iterable[str]) -> Iterator[str]:
    for pointer in pointers:
        if (value := value_at(body, pointer)) is not None and (text := adapter.validate_python(value)) is not None:
            yield text


def type_at(*pointers: str) -> Callable[[Body, str | None], str | None]:
    """Make `VendorMapping.event_type` of pointers. The event of the route is not used."""
    return lambda body, _: text_at(body, *pointers)


def patient_at(*pointers: str) -> Callable[[Body], tuple[str, ...] | None]:
    """Make `VendorMapping.patient_key` of pointers to the vendor's patient id. A placeholder is none (§2.6)."""

    def patient_key(body: Body) -> tuple[str, ...] | None:
        text = id_at(body, *pointers)
        return None if text is None else (text,)

    return patient_key


def read_event_time(value: object, received_at: Instant) -> EventTime | None:
    """Read an event time: a date-time with a zone, or UNIX seconds or milliseconds; None for any other value."""
    if value is None:
        return None
    number = None if Instant.parse(value) else _NUMBER.validate_python(value)  # a failed validation takes long
    return sent_event_time(value, number, received_at)


def time_at(*pointers: str) -> Callable[[Envelope], EventTime]:
    """Make `VendorMapping.event_time` of pointers to the time at which the event happened.

    A value is a date-time with a zone, or UNIX seconds, from the year 2000 on. A number that makes sense as
    milliseconds only is read as such (flag ``timestamp-unit-assumed``). Without a usable value the time of receipt is
    used: flag ``timestamp-invalid``, or ``no-event-time`` where no pointers are given.
    """

    def of(envelope: Envelope) -> EventTime:
        received = envelope.received_at
        for value in (value_at(envelope.body, pointer) for pointer in pointers):
            if found := read_event_time(value, received):
                return found
        return event_time(None, received, otherwise=TIMESTAMP_INVALID if pointers else "no-event-time")

    return of
