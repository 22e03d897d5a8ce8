"""Cases as rows, lines and JSON, and payloads where they are revealed."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.observe.audit import audit
from fhirline.streams.observe.terminal import counted, printable
from fhirline.streams.operate.dead_letters.cases import Case, Status
from fhirline.streams.operate.dead_letters.selection import Group

STATUSES = tuple(status.value for status in Status)
GROUP_COLUMNS = ("vendor", "code", "path", "mapping", "events", *STATUSES, "first received", "last received")
CASE_COLUMNS = ("id", "status", "attempts", "tenant", "event type", "code", "path", "mapping", "received")


def group_row(group: Group) -> Sequence[str | int]:
    return (
        group.vendor,
        group.code,
        group.path or "-",
        group.mapping_version or "-",
        group.counts.total(),
        *(group.counts[status] for status in Status),
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
        "statuses": {status.value: group.counts[status] for status in Status},
        "firstReceived": group.first and group.first.text,
        "lastReceived": group.last and group.last.text,
    }


def case_row(case: Case) -> Sequence[str | int]:
    last = case.last
    return (
        case.id,
        case.status.value,
        case.attempts,
        last.tenant,
        last.event_type,
        last.code,
        last.path or "-",
        last.mapping_version or "-",
        _time(last.received),
    )


def case_document(case: Case) -> dict[str, Any]:
    """Make a case's JSON, without key and payload, which may name a patient."""
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
        "letters": [str(letter.position) for letter in case.letters],
        "raw": str(last.raw) if last.raw else None,
        "redriven": mark
        and {"to": str(mark.redriven) if mark.redriven else None, "idempotencyKey": mark.idempotency_key},
    }


def case_lines(case: Case, where: str = "shown with --reveal") -> Iterable[str]:
    """Make the lines of ``show``: one per field, then one per failing path. ``where``: where the payload is shown."""
    document = case_document(case)
    problems, redriven = document.pop("problems"), document.pop("redriven")
    size = document.pop("bytes")
    letters = document.pop("letters")
    for name, value in document.items():
        yield f"{name:16}{printable('-' if value in (None, '') else str(value))}"
    payload = "not in the letter; it may be in the raw record"
    if size is not None:
        payload = f"{counted(size, 'byte')}, {where}"
    yield f"{'payload':16}{payload}"
    for position in letters:
        yield f"{'letter':16}{position}"
    if redriven:
        yield f"{'redriven to':16}{redriven['to'] or '-'} (idempotency key {printable(redriven['idempotencyKey'])})"
    for problem in problems:
        yield f"{'problem':16}" + printable("  ".join(str(value) for value in problem.values()))


def payload_document(record: ConsumerRecord) -> dict[str, Any]:
    """Return key and payload of a letter: the payload as JSON, else its bytes in base64."""
    document: dict[str, Any] = {"key": (record.key or b"").decode("utf-8", "replace")}
    if record.value is None:
        return {**document, "payload": None}
    try:
        return {**document, "payload": orjson.loads(record.value)}
    except orjson.JSONDecodeError:
        return {**document, "payloadBase64": b64encode(record.value).decode()}


def payload_text(value: bytes | None) -> str:
    """Write a payload for a terminal, with escapes for everything that would steer it."""
    if value is None:
        return "(none)"
    try:
        text = orjson.dumps(orjson.loads(value), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        text = value.decode("utf-8", "backslashreplace")
    return "\n".join(map(printable, text.split("\n")))


def audit_reveal(cases: Iterable[Case], how: str, reason: str, name: str | None) -> None:
    """Audit who sees which letters' payloads, and why. Call it before showing them. ``how``: ``show`` or ``export``."""
    for case in cases:
        last = case.last
        about = {"letter": case.id, "vendor": last.vendor, "tenant": last.tenant, "event_key": last.event_key}
        audit("dead letter revealed", by=how, name=name, reason=reason, **about)


def _time(at: Instant | None) -> str:
    return at.text if at else "-"
