"""The event envelope: a redacted body with vendor, tenant, time of receipt and event key (mapping.md §2)."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.redaction import redact

Body = dict[str, Any]
MAX_DEPTH = 200
"""Deepest nesting of a body that is accepted; orjson writes at most 254 levels."""


class UnreadableBody(FhirlineError):
    """A raw value is not a webhook body. ``code`` is the dead letter's stable code; messages never quote the body."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


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
) -> Envelope:
    """Parse and redact a raw value; raise UnreadableBody (``not-json``, ``not-an-object``, ``too-deep``)."""
    body = redact(read_body(value, max_depth))
    return Envelope(vendor, tenant, received_at, body, event_key(body), route_event or None)


def read_body(value: bytes | str, max_depth: int = MAX_DEPTH) -> Body:
    """Parse a webhook body; raise UnreadableBody (``not-json``, ``not-an-object``, ``too-deep``)."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        place = f" (line {error.lineno}, column {error.colno})" if error.doc else ""
        raise UnreadableBody("not-json", f"the body is not JSON{place}") from None
    if not isinstance(body, dict):
        raise UnreadableBody("not-an-object", "the body is JSON, but not an object")
    text = value if isinstance(value, bytes) else value.encode()
    if text.count(b"{") + text.count(b"[") > max_depth and deeper_than(body, max_depth):
        raise UnreadableBody("too-deep", f"the body is nested deeper than {max_depth} levels")
    return body


def deeper_than(value: object, limit: int) -> bool:
    """Return whether containers are nested deeper than ``limit``, level by level and so without recursion."""
    level = [value]
    for _ in range(limit):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)  # type: ignore[attr-defined]  # a list or a dict, both from JSON
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def canonical(value: Any) -> bytes:
    """Serialize parsed JSON in canonical form: sorted keys, no white space."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def event_key(body: Body) -> str:
    """Return the lower-case hex SHA-256 of a *redacted* body in canonical form."""
    return hashlib.sha256(canonical(body)).hexdigest()
