"""The registry of vendors: what a vendor package declares, and which mapping an event gets.

To add a vendor: a package ``mappers/<vendor>/`` with a ``VENDOR`` in its ``__init__``, its name in `VENDORS`, and a
block in ``config/vendors.yaml``. To add an event: a module with its mapping, and a line in the package's ``events``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from importlib import import_module
from typing import Any

from fhirline.mappers.context import Context
from fhirline.mappers.declarations import CodeSystem
from fhirline.mappers.identity import escape_part, key
from fhirline.mappers.instants import Instant
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline.envelope import Body, Envelope, open_envelope
from fhirline.mappers.results import MappingResult
from fhirline.mappers.times import EventTime

VENDORS = ("altibbi", "azodha", "infermedica", "mediquo")


@dataclass(frozen=True, slots=True)
class EventMapping:
    """The mapping of one event type: the model that reads its body, and the pure function that maps the model."""

    model: type[Payload]
    map: Callable[[Any, Context], MappingResult]


@dataclass(frozen=True, slots=True)
class VendorMapping:
    """A vendor's declaration for the pipeline.

    * ``event_type(body, route_event)``: the event type, by the vendor's discriminator (mapping.md §2); None if unknown.
    * ``patient_key(body)``: the parts of the patient key (mapping.md §2); None where the body names no patient.
    * ``event_time(envelope)``: when the event happened (mapping.md §3.3).
    * ``events``: event type → mapping.
    * ``identifiers``: kind → what its identifiers identify, for each kind that the mappings emit (mapping.md §4.2).
    * ``code_systems``: the code systems that only this vendor's mappings use.
    * ``unmapped``: event types that are known and have no mapping.
    """

    name: str
    event_type: Callable[[Body, str | None], str | None]
    patient_key: Callable[[Body], tuple[str, ...] | None]
    event_time: Callable[[Envelope], EventTime]
    events: Mapping[str, EventMapping]
    identifiers: Mapping[str, str]
    code_systems: tuple[CodeSystem, ...] = ()
    unmapped: frozenset[str] = field(default_factory=frozenset)


@cache
def vendor_mapping(vendor: str) -> VendorMapping:
    """Return what the package of ``vendor`` declares; raise KeyError for an unknown vendor."""
    if vendor not in VENDORS:
        raise KeyError(vendor)
    declared = import_module(f"fhirline.mappers.{vendor}").VENDOR
    assert isinstance(declared, VendorMapping)
    return declared


def open_without_receipt(vendor: str, tenant: str, value: bytes | str, route_event: str | None = None) -> Envelope:
    """Open a body whose time of receipt is unknown, and take the event's own time, or 1970-01-01 without one.

    No clock is read, so that equal bodies give equal resources. Raises UnreadableBody.
    """
    epoch, end_of_time = Instant.from_unix(Decimal(0)), Instant.parse("9999-12-31T00:00:00Z")
    assert epoch
    assert end_of_time
    opened = open_envelope(vendor, tenant, value, end_of_time, route_event)  # no event time lies after this receipt
    own = vendor_mapping(vendor).event_time(opened)
    return opened.received_first(epoch if own.from_received else own.instant)


def patient_key(vendor: str, body: Body, event_key: str) -> str:
    """Return the event's patient key, escaped; ``event/<eventKey>`` where the body names no patient (mapping.md §2)."""
    return key(*(vendor_mapping(vendor).patient_key(body) or ("event", event_key)))


def raw_key(envelope: Envelope) -> str:
    """Return the key of the event's record in ``raw.<vendor>``: ``tenant|<patientKey>``."""
    return f"{escape_part(envelope.tenant)}|{patient_key(envelope.vendor, envelope.body, envelope.event_key)}"


def partition_key(envelope: Envelope) -> str:
    """Return the text that partitions the event's canonical records: ``vendor|tenant|<patientKey>``."""
    return f"{envelope.vendor}|{raw_key(envelope)}"
