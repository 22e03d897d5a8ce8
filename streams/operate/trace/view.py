"""What was found, as lines and as JSON. Payloads are not in here, but for `payload`, which the caller has to log."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.observe.audit import audit
from fhirline.streams.observe.terminal import printable
from fhirline.streams.operate.trace.find import EventTrace, RecordSummary, ResourceTrace, event_key_of

SHOWN = 50
"""Provenance records, or raw records, that are shown as lines at most; JSON has all."""


def instant(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record_document(record: RecordSummary) -> dict[str, Any]:
    return {
        "key": record.key,
        "record": str(record.position),
        "written": instant(record.timestamp_ms),
        "bytes": record.size,
        "headers": record.named,
    }


def raw_document(position: str, raw: ConsumerRecord | None) -> dict[str, Any]:
    """A raw record without key and value: both may name the patient."""
    if raw is None:
        return {"record": position, "gone": True}
    told = {
        name: header(raw.headers, name)
        for name in (headers.TENANT, headers.EVENT_TYPE, headers.RECEIVED_AT)
        if header(raw.headers, name)
    }
    return {
        "record": position,
        "timestamp": instant(raw.timestamp_ms),
        "vendor": raw.vendor,
        "eventKey": event_key_of(raw),
        "bytes": len(raw.value or b""),
        "headers": told,
    }


def resource_document(found: ResourceTrace) -> dict[str, Any]:
    return {
        "resource": found.resource,
        "history": [record_document(each) for each in found.history],
        "provenance": [record_document(each) for each in found.provenances],
        "raw": [raw_document(place, raw) for place, raw in found.raws.items()],
    }


def event_document(found: EventTrace) -> dict[str, Any]:
    return {
        "eventKey": found.event_key,
        "raw": [raw_document(place, raw) for place, raw in found.raws.items()],
        "made": found.made,
        "written": [record_document(each) for each in found.written],
        "messages": [record_document(each) for each in found.messages],
        "deadLetters": [{**record_document(each), "status": status} for each, status in found.letters],
    }


def resource_lines(found: ResourceTrace) -> Iterator[str]:
    yield found.resource
    yield "\nrecords (oldest first; compaction keeps the last)"
    yield from _lines(found.history)
    yield "\nevents that made it, by their Provenance"
    yield from _lines(found.provenances)
    yield "\nraw records"
    yield from _raw_lines(found.raws)


def event_lines(found: EventTrace) -> Iterator[str]:
    yield f"event {found.event_key}"
    yield "\nraw records"
    yield from _raw_lines(found.raws)
    yield "\nmade, by its Provenance (a later event may have written it since)"
    yield from (f"  {each}" for each in found.made or ["-"])
    yield "\nrecords that are its own now"
    yield from _lines(found.written)
    yield "\nBundles and outcomes"
    yield from _lines(found.messages)
    yield "\ndead letters"
    yield from _lines([each for each, _ in found.letters])
    yield from (f"  status of {each.position}: {_status(status)}" for each, status in found.letters)


def _lines(records: list[RecordSummary]) -> Iterator[str]:
    if not records:
        yield "  -"
    for each in records[-SHOWN:]:
        told = (f"{name}={value}" for name, value in sorted(each.named.items()) if name != headers.ERRORS)
        named = printable("  ".join(told))
        what = "tombstone" if each.size is None else f"{each.size} bytes"
        yield f"  {printable(each.key)}  {each.position}  {instant(each.timestamp_ms)}  {what}  {named}"
    if (more := len(records) - SHOWN) > 0:
        yield f"  and {more} before these: --json has all"


def _raw_lines(raws: dict[str, ConsumerRecord | None]) -> Iterator[str]:
    if not raws:
        yield "  -"
    for place, raw in list(raws.items())[:SHOWN]:
        if raw is None:
            yield f"  {place}  gone: its topic's retention is over"
            continue
        told = raw_document(place, raw)
        named = printable("  ".join(f"{name}={value}" for name, value in sorted(told["headers"].items())))
        event = printable(told["eventKey"] or "-")
        yield f"  {place}  {told['timestamp']}  {told['bytes']} bytes  event-key={event}  {named}"
    if (more := len(raws) - SHOWN) > 0:
        yield f"  and {more} more: --json has all"


def _status(status: Any) -> str:
    return str(status.get("status", "?")) if isinstance(status, dict) else "open"


def payload(raw: ConsumerRecord) -> str:
    """The event as it was received; as text where it is no JSON."""
    try:
        return orjson.dumps(orjson.loads(raw.value or b""), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return (raw.value or b"").decode("utf-8", "backslashreplace")


def revealed(raws: Iterable[ConsumerRecord], reason: str, name: str | None) -> None:
    """Log who sees which payload, and why, before it is shown."""
    for raw in raws:
        told = {"raw": str(raw.position), "vendor": raw.vendor, "event_key": event_key_of(raw)}
        audit("raw event revealed", by="trace", name=name, reason=reason, **told)
