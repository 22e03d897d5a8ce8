"""Cases as people and programs read them: rows, lines, JSON; and the payload where it was asked for."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.observe.audit import audit
from fhirline.streams.observe.terminal import printable
from fhirline.streams.operate.dead_letters.cases import Case, Status
from fhirline.streams.operate.dead_letters.selection import Group

GROUP_COLUMNS = (
    "vendor", "code", "path", "mapping", "events", *(each.value for each in Status), "first received", "last received"
)  # fmt: skip
CASE_COLUMNS = ("id", "status", "attempts", "tenant", "event type", "code", "path", "mapping", "received")


def group_row(group: Group) -> Sequence[str]:
    return (
        group.vendor,
        group.code,
        group.path or "-",
        group.mapping_version or "-",
        str(group.counts.total()),
        *(str(group.counts[each]) for each in Status),
        _time(group.first),
        _time(group.last),
    )


def group_document(group: Group) -> dict[str, Any]:
    return {
        "vendor": group.vendor,
        "code": group.code,
        "path": group.path,
        "mappingVersion": group.mapping_version,
        "events": group.counts.total(),
        "statuses": {each.value: group.counts[each] for each in Status},
        "firstReceived": group.first and group.first.text,
        "lastReceived": group.last and group.last.text,
    }


def case_row(case: Case) -> Sequence[str]:
    last = case.last
    return (
        case.id,
        case.status.value,
        str(case.attempts),
        last.tenant,
        last.event_type,
        last.code,
        last.path or "-",
        last.mapping_version or "-",
        _time(last.received),
    )


def case_document(case: Case) -> dict[str, Any]:
    """Everything but key and payload, which may name a patient."""
    last, mark = case.last, case.mark
    return {
        "id": case.id,
        "status": case.status.value,
        "attempts": case.attempts,
        "vendor": last.vendor,
        "tenant": last.tenant,
        "eventType": last.event_type,
        "eventKey": last.event_key or None,
        "receivedAt": last.received and last.received.text,
        "code": last.code,
        "path": last.path,
        "problems": last.problems,
        "mappingVersion": last.mapping_version,
        "bytes": last.size,
        "letters": [str(each.position) for each in case.letters],
        "raw": str(last.raw) if last.raw else None,
        "redriven": mark
        and {"to": str(mark.redriven) if mark.redriven else None, "idempotencyKey": mark.idempotency_key},
    }


def case_lines(case: Case) -> Iterable[str]:
    """``show``: a field a line, then a failing path a line."""
    document = case_document(case)
    problems, redriven = document.pop("problems"), document.pop("redriven")
    size = document.pop("bytes")
    letters = document.pop("letters")
    for name, value in document.items():
        yield f"{name:16}{printable('-' if value in (None, '') else str(value))}"
    told = f"{size} bytes, shown with --reveal" if size is not None else "left out of the letter; raw may hold it"
    yield f"{'payload':16}{told}"
    for place in letters:
        yield f"{'letter':16}{place}"
    if redriven:
        yield f"{'redriven to':16}{redriven['to'] or '-'} (idempotency key {printable(redriven['idempotencyKey'])})"
    for each in problems:
        yield f"{'problem':16}" + printable("  ".join(str(value) for value in each.values()))


def payload_document(record: ConsumerRecord) -> dict[str, Any]:
    """Key and payload of a letter: JSON as it is, else its bytes in base64."""
    held: dict[str, Any] = {"key": (record.key or b"").decode("utf-8", "replace")}
    if record.value is None:
        return {**held, "payload": None}
    try:
        return {**held, "payload": orjson.loads(record.value)}
    except orjson.JSONDecodeError:
        return {**held, "payloadBase64": b64encode(record.value).decode()}


def payload_text(value: bytes | None) -> str:
    """A payload for a terminal: nothing in it may steer that."""
    if value is None:
        return "(none)"
    try:
        text = orjson.dumps(orjson.loads(value), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        text = value.decode("utf-8", "backslashreplace")
    return "\n".join(map(printable, text.split("\n")))


def revealed(cases: Iterable[Case], how: str, reason: str, name: str | None) -> None:
    """Audit who sees which letters' payloads, and why; ``how``: ``show`` or ``export``. To be called before it."""
    for case in cases:
        last = case.last
        about = {"letter": case.id, "vendor": last.vendor, "tenant": last.tenant, "event_key": last.event_key}
        audit("dead letter revealed", by=how, name=name, reason=reason, **about)


def _time(at: Instant | None) -> str:
    return at.text if at else "-"
