"""Read a raw record: its envelope, and its value without secrets."""

import re
from decimal import Decimal

import orjson

from fhirline.config.vendors import DEFAULT_TENANT, SLUG
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.body import BODY_FLAGS, MAX_DEPTH
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody, open_envelope
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord

UNREADABLE_HEADER = "bad-header"
"""Error code of a record whose headers cannot be read."""


def envelope_of(raw: ConsumerRecord) -> Envelope:
    """Open a raw record's envelope. Raises UnreadableBody.

    Another producer's record may lack our headers (architecture.md §3.2). Its timestamp is then the time of receipt,
    and its tenant the default one.
    """
    if raw.value is None:
        raise UnreadableBody("empty", "the record has no value")
    tenant = headers.header(raw.headers, headers.TENANT) or DEFAULT_TENANT
    if not re.fullmatch(SLUG, tenant):
        raise UnreadableBody(UNREADABLE_HEADER, "the header tenant is no slug")
    received_at = Instant.parse(headers.header(raw.headers, headers.RECEIVED_AT))
    received_at = received_at or Instant.from_unix(Decimal(raw.timestamp_ms) / 1000)
    if received_at is None:
        raise UnreadableBody(UNREADABLE_HEADER, "neither the header received-at nor the timestamp is readable")
    route_event = headers.header(raw.headers, headers.EVENT_TYPE)
    return open_envelope(raw.vendor, tenant, raw.value, received_at, route_event, MAX_DEPTH, body_flags(raw))


def body_flags(record: ConsumerRecord | ProducerRecord) -> tuple[str, ...]:
    """Return the flags of how an event's body was read, as a record's header names them (mapping.md §2.5), sorted."""
    named = headers.header(record.headers, headers.BODY_FLAGS)
    return tuple(sorted(BODY_FLAGS.intersection(named.split(",")))) if named else ()


def redacted_value(raw: ConsumerRecord, envelope: Envelope) -> bytes | None:
    """Return the raw value, redacted (mapping.md §7); None where the record has none.

    It is always written anew: the value as sent may hold a secret that parsing hides, under a key that it repeats. For
    the gateway's own records that gives the same bytes.
    """
    return None if raw.value is None else orjson.dumps(envelope.body)
