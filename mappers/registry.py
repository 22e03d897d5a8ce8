"""What a vendor package declares, and how an event finds its mapping.

Adding a vendor: a package ``mappers/<vendor>/`` with a ``VENDOR`` in its ``__init__``, its line in `VENDORS`, and a
block in ``config/vendors.yaml``. Adding an event: a module with its mapping, and a line in the package's ``events``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from fhirline.mappers.context import Context
from fhirline.mappers.identity import escape, key
from fhirline.mappers.payload import Payload
from fhirline.mappers.pipeline.envelope import Body, Envelope
from fhirline.mappers.results import MappingResult
from fhirline.mappers.times import EventTime

VENDORS = ("altibbi", "azodha", "infermedica", "mediquo")


@dataclass(frozen=True, slots=True)
class EventMapping:
    """One event type: how its body is read, and the pure function that maps it."""

    model: type[Payload]
    map: Callable[[Any, Context], MappingResult]


@dataclass(frozen=True, slots=True)
class VendorMapping:
    """Everything the pipeline asks of a vendor.

    ``event_type(body, route_event)`` is the discriminator of mapping.md §2; ``patient_key(body)`` the parts of the
    patient compartment's key, None where the body names none; ``event_time`` as §3.3. ``unmapped`` are event types
    that are known and have no mapping.
    """

    name: str
    event_type: Callable[[Body, str | None], str | None]
    patient_key: Callable[[Body], tuple[str, ...] | None]
    event_time: Callable[[Envelope], EventTime]
    events: Mapping[str, EventMapping]
    unmapped: frozenset[str] = field(default_factory=frozenset)


@cache
def vendor_mapping(vendor: str) -> VendorMapping:
    """The declaration of ``vendor``; KeyError for an unknown one."""
    if vendor not in VENDORS:
        raise KeyError(vendor)
    declared = import_module(f"fhirline.mappers.{vendor}").VENDOR
    assert isinstance(declared, VendorMapping)
    return declared


def compartment(vendor: str, body: Body, event_key: str) -> str:
    """The patient key of mapping.md §2, escaped; ``event/<eventKey>`` where the body names nobody."""
    return key(*(vendor_mapping(vendor).patient_key(body) or ("event", event_key)))


def raw_key(envelope: Envelope) -> str:
    """Key of the event's record in ``raw.<vendor>``: ``tenant|<patientKey>``."""
    return f"{escape(envelope.tenant)}|{compartment(envelope.vendor, envelope.body, envelope.event_key)}"


def partition_key(envelope: Envelope) -> str:
    """What canonical records of the event are partitioned by: ``vendor|tenant|<patientKey>``."""
    return f"{envelope.vendor}|{raw_key(envelope)}"
