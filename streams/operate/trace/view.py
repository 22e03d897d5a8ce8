"""Traces as lines and as JSON. Payloads are in neither; `payload` returns one, which the caller has to audit."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.observe.audit import audit
from fhirline.streams.observe.terminal import counted, printable
from fhirline.streams.operate.trace.find import EventTrace, RecordSummary, ResourceTrace
from fhirline.streams.operate.trace.raw import event_key_of

SHOWN = 50
"""Records of a kind that are shown as lines at most; JSON has all."""

ERASED = "cannot be read: its data key is destroyed, because its patient was erased or the key was given up as lost"


def instant(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record_document(record: RecordSummary) -> dict[str, Any]:
    return {
        "key": record.key,
        "record": str(record.position),
        "written": instant(record.timestamp_ms),
        "bytes": record.size,
        "headers": record.headers,
    }


def raw_document(position: str, raw: ConsumerRecord | None) -> dict[str, Any]:
    """Make the JSON of a raw record, without key and value, which may name the patient."""
    if raw is None or raw.key_destroyed:
        return {"record": position, "gone": True} | ({} if raw is None else {"keyDestroyed": True})
    shown = (headers.TENANT, headers.EVENT_TYPE, headers.RECEIVED_AT)
    return {
        "record": position,
        "timestamp": instant(raw.timestamp_ms),
        "vendor": raw.vendor,
        "eventKey": event_key_of(raw),
        "bytes": len(raw.value or b""),
        "headers": {name: text for name in shown if (text := header(raw.headers, name))},
    }


def resource_document(found: ResourceTrace) -> dict[str, Any]:
    return {
        "resource": found.resource,
        "history": [record_document(record) for record in found.history],
        "provenance": [record_document(record) for record in found.provenances],
        "raw": [raw_document(position, raw) for position, raw in found.raws.items()],
    }


def event_document(found: EventTrace) -> dict[str, Any]:
    return {
        "eventKey": found.event_key,
        "raw": [raw_document(position, raw) for position, raw in found.raws.items()],
        "made": found.made,
        "written": [record_document(record) for record in found.written],
        "messages": [record_document(record) for record in found.messages],
        "deadLetters": [{**record_document(letter), "status": status} for letter, status in found.letters],
    }


def resource_lines(found: ResourceTrace) -> Iterator[str]:
    yield found.resource
    yield "\nrecords, oldest first (compaction keeps the last)"
    yield from _lines(found.history)
    yield "\nevents that made it, by their Provenance"
    yield from _lines(found.provenances)
    yield "\nraw records"
    yield from _raw_lines(found.raws)


def event_lines(found: EventTrace) -> Iterator[str]:
    yield f"event {found.event_key or 'key unknown'}"
    yield "\nraw records"
    yield from _raw_lines(found.raws)
    yield "\nresources that it made, by its Provenance (a later event may have written them since)"
    yield from (f"  {key}" for key in found.made or ["-"])
    yield "\nrecords that it wrote last"
    yield from _lines(found.written)
    yield "\nBundles and outcomes"
    yield from _lines(found.messages)
    yield "\ndead letters"
    yield from _lines([letter for letter, _ in found.letters])
    yield from (f"  status of {letter.position}: {_status(status)}" for letter, status in found.letters)


def _lines(records: list[RecordSummary]) -> Iterator[str]:
    if not records:
        yield "  -"
    for record in records[-SHOWN:]:
        pairs = (f"{name}={value}" for name, value in sorted(record.headers.items()) if name != headers.ERRORS)
        size = "tombstone" if record.size is None else counted(record.size, "byte")
        where = f"{record.position}  {instant(record.timestamp_ms)}"
        yield f"  {printable(record.key)}  {where}  {size}  {printable('  '.join(pairs))}"
    if (more := len(records) - SHOWN) > 0:
        yield f"  and {more} before these: --json has all"


def _raw_lines(raws: dict[str, ConsumerRecord | None]) -> Iterator[str]:
    if not raws:
        yield "  -"
    for position, raw in list(raws.items())[:SHOWN]:
        if raw is None:
            yield f"  {position}  gone: retention is over"
            continue
        if raw.key_destroyed:
            yield f"  {position}  {instant(raw.timestamp_ms)}  {ERASED}"
            continue
        document = raw_document(position, raw)
        pairs = printable("  ".join(f"{name}={value}" for name, value in sorted(document["headers"].items())))
        event_key = printable(document["eventKey"] or "-")
        size = counted(document["bytes"], "byte")
        yield f"  {position}  {document['timestamp']}  {size}  event-key={event_key}  {pairs}"
    if (more := len(raws) - SHOWN) > 0:
        yield f"  and {more} more: --json has all"


def _status(status: Any) -> str:
    return str(status.get("status", "?")) if isinstance(status, dict) else "open"


def payload(raw: ConsumerRecord) -> str:
    """Return the event as it was received: as JSON, else as text."""
    try:
        return orjson.dumps(orjson.loads(raw.value or b""), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return (raw.value or b"").decode("utf-8", "backslashreplace")


def audit_reveal(raws: Iterable[ConsumerRecord], reason: str, name: str | None, by: str = "trace") -> None:
    """Audit who sees which payloads, and why. Call it before showing them. ``by``: the command."""
    for raw in raws:
        about = {"raw": str(raw.position), "vendor": raw.vendor, "event_key": event_key_of(raw)}
        audit("raw event revealed", by=by, name=name, reason=reason, **about)
