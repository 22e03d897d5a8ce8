"""The event envelope: a redacted body with vendor, tenant, time of receipt and event key (mapping.md §2)."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import orjson

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.body import BODY_FLAGS, MAX_DEPTH, Body, UnreadableBody, read_body
from fhirline.mappers.pipeline.redaction.redact import redact

__all__ = [
    "MAX_DEPTH",
    "Body",
    "Envelope",
    "UnreadableBody",
    "canonical",
    "event_key",
    "open_envelope",
]


@dataclass(frozen=True, slots=True)
class Envelope:
    """One delivered event. ``body`` is redacted; ``event_key`` is the SHA-256 of its canonical form, in hex.

    ``route_event`` is the event type of the ingress route (Azodha), where the body does not name it.
    """

    vendor: str
    tenant: str
    received_at: Instant
    body: Body
    event_key: str
    route_event: str | None = None
    flags: tuple[str, ...] = ()
    """Sorted codes of the flags of how the body was read (mapping.md §2.5)."""

    def received_first(self, first: Instant) -> "Envelope":
        """Return the event as first received (mapping.md §3.2: byte-equal deliveries are one event)."""
        return replace(self, received_at=first)


def open_envelope(
    vendor: str,
    tenant: str,
    value: bytes | str,
    received_at: Instant,
    route_event: str | None = None,
    max_depth: int = MAX_DEPTH,
    flags: Collection[str] = (),
) -> Envelope:
    """Read and redact a raw value; raise UnreadableBody (``not-json``, ``not-an-object``, ``too-deep``).

    ``flags`` are those that an earlier reading of the event raised; all but body flags are ignored.
    """
    read = read_body(value, max_depth)
    body = redact(read.body, value if isinstance(value, bytes) else None)
    all_flags = tuple(sorted(BODY_FLAGS.intersection(flags).union(read.flags))) if flags else read.flags
    return Envelope(vendor, tenant, received_at, body, event_key(body), route_event or None, all_flags)


def canonical(value: Any) -> bytes:
    """Serialize parsed JSON in canonical form: sorted keys, no white space."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def event_key(body: Body) -> str:
    """Return the lower-case hex SHA-256 of a *redacted* body in canonical form."""
    return hashlib.sha256(canonical(body)).hexdigest()
