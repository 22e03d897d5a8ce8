"""The raw record: a vendor's event as it is retained (architecture.md §3.2).

Value: the vendor's JSON, redacted (mapping.md §7). Key: ``tenant|<patient key>`` (§2). Headers:
``received-at``, ``tenant``, ``event-key``, the event of the ingress route (Azodha) as ``event-type``, and the flags of
how the body was read (§2.5) as ``body-flags``.
"""

from collections.abc import Collection
from datetime import UTC, datetime

import orjson

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import open_envelope
from fhirline.mappers.registry import raw_key
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.observe.gc_tuning import collector_suspended
from fhirline.topics.declared import raw_topic


def raw_record(
    vendor: str,
    tenant: str,
    body: bytes,
    received_at: Instant,
    route_event: str | None,
    max_depth: int,
    flags: Collection[str] = (),
) -> ProducerRecord:
    """Make the raw record of one body. Raises UnreadableBody where it is no JSON object, or nested too deep.

    Its timestamp is the time of receipt, so that a search by time finds it there. ``flags`` are those of the
    earlier reading that ``body`` is the result of.
    """
    with collector_suspended(body):  # the parsed body is freed inside: else the collector would visit all of it
        return _raw_record(vendor, tenant, body, received_at, route_event, max_depth, flags)


def _raw_record(
    vendor: str,
    tenant: str,
    body: bytes,
    received_at: Instant,
    route_event: str | None,
    max_depth: int,
    flags: Collection[str],
) -> ProducerRecord:
    envelope = open_envelope(vendor, tenant, body, received_at, route_event, max_depth, flags)
    known = {"received_at": received_at.text, "tenant": tenant, "event_key": envelope.event_key}
    if envelope.route_event is not None:
        known["event_type"] = envelope.route_event
    if envelope.flags:
        known["body_flags"] = ",".join(envelope.flags)
    return ProducerRecord(
        topic=raw_topic(vendor),
        key=raw_key(envelope).encode(),
        value=orjson.dumps(envelope.body),
        headers=headers(**known),
        timestamp_ms=max(1, received_at.milliseconds),  # Kafka has none before 1970, and librdkafka takes 0 for "now"
    )


def now() -> Instant:
    """Return the time of receipt, to the millisecond: the only clock reading that an event's mapping uses."""
    return Instant.at(datetime.now(UTC))
