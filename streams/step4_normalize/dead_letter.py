"""Dead letters: the redacted raw value, and in the headers a stable code, a path and the record it came from.

The headers never contain a value of the payload, nor a key that may be one (docs/dead-letters.md).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import orjson

from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.identity import escape_part
from fhirline.mappers.pipeline.body import CAUSES, UnreadableBody, fingerprint, read_json
from fhirline.mappers.pipeline.envelope import Envelope
from fhirline.mappers.pipeline.limits import TooComplex, short
from fhirline.mappers.pipeline.normalize import Refusal
from fhirline.mappers.pipeline.redaction.redact import redact
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.step4_normalize.raw_event import body_flags, envelope_of, redacted_value
from fhirline.topics.declared import dead_letter_topic

MAPPING_FAILED = "mapping-failed"
TOO_COMPLEX = "too-complex"
TOO_LARGE = "record-too-large"
CANNOT_BE_OPENED = "cannot-be-opened"
"""Error code of a sealed record whose bytes, headers or key-id were changed (`streams.kafka.encryption`)."""
WORKER_ENDED = "worker-ended"
"""Error code of an event over which several processes have ended (`streams.step2_consume.unfinished`)."""
MAX_PROBLEMS = 20
SHORT = 1_024
"""Bytes of a key or header that fit into any dead letter."""

_PASSED_ON = frozenset(
    {
        headers.RECEIVED_AT,
        headers.TENANT,
        headers.EVENT_TYPE,
        headers.ATTEMPT,
        headers.FIRST_RAW,
        headers.REDRIVE,
    }
)
"""Headers of the raw record that its dead letter repeats."""


def dead_letter(
    raw: ConsumerRecord,
    value: bytes | None,
    code: str,
    path: str = "",
    errors: str = "",
    event: str = "",
    tables: str = "",
    flags: Collection[str] = (),
) -> ProducerRecord:
    """Build the dead letter of a raw record.

    ``value`` is redacted (mapping.md §7), or None. ``tables``: version of the tables that the event was mapped with.
    ``flags``: how the body was read (§2.5). The value is written anew, so that no later reading finds them.
    """
    tenant = headers.header(raw.headers, headers.TENANT) or DEFAULT_TENANT
    return ProducerRecord(
        dead_letter_topic(raw.vendor),
        raw.key or f"{escape_part(tenant)}|record/{raw.partition}/{raw.offset}".encode(),
        value,
        headers=[
            *((name, sent) for name, sent in raw.headers if name in _PASSED_ON and sent),
            *headers.headers(
                vendor=raw.vendor,
                raw=str(raw.position),
                mapping_version=MAPPING_VERSION,
                error_code=code,
                error_path=path,
                errors=errors or "[]",
                raw_timestamp=str(raw.timestamp_ms),
            ),
            *(headers.headers(event_key=event) if event else []),
            *(headers.headers(tables_version=tables) if tables else []),
            *(headers.headers(body_flags=",".join(flags)) if flags else []),
            *([] if headers.header(raw.headers, headers.ATTEMPT) else headers.headers(attempt="1")),
        ],
        data_key=raw.data_key,
    )


def unreadable_letter(raw: ConsumerRecord, error: UnreadableBody, tables: str = "") -> ProducerRecord:
    """Build the dead letter of a record that cannot be read, with its length, digest and place (mapping.md §2.5).

    The letter has the redacted value of a record whose value is an object or a list. Another value cannot be redacted,
    so that the letter goes without it; the raw record, whose position is in the header ``raw``, still has it.
    """
    value, flags = _redacted_unopened(raw)
    if raw.value is None or error.cause not in CAUSES:
        return dead_letter(raw, value, error.code, tables=tables, flags=flags)
    place = {} if error.line is None else {"line": error.line, "column": error.column}
    path = f"line {error.line}, column {error.column}" if place else ""
    problem = {"code": error.code, "problem": error.cause, **fingerprint(raw.value), **place}
    shown = orjson.dumps([problem]).decode()
    return dead_letter(raw, value, error.code, path, errors=shown, tables=tables, flags=flags)


def _redacted_unopened(raw: ConsumerRecord) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the redacted value of a record without an envelope, and the flags of all its readings."""
    earlier = body_flags(raw)
    try:
        value, found = read_json(raw.value or b"")
    except UnreadableBody:
        return None, earlier
    if not isinstance(value, dict | list):
        return None, earlier
    return orjson.dumps(redact(value)), tuple(sorted({*earlier, *found}))


def failure_letter(raw: ConsumerRecord, envelope: Envelope, error: Exception, tables: str = "") -> ProducerRecord:
    """Build the dead letter of an event that a defect of ours failed on."""
    value, event = redacted_value(raw, envelope), envelope.event_key
    return dead_letter(raw, value, MAPPING_FAILED, _raised_at(error), event=event, tables=tables, flags=envelope.flags)


def unopened_letter(raw: ConsumerRecord, error: Exception, tables: str = "") -> ProducerRecord:
    """Build the dead letter, without a value, of an event that a defect of ours could not read or redact."""
    return dead_letter(raw, None, MAPPING_FAILED, _raised_at(error), tables=tables, flags=body_flags(raw))


def too_complex_letter(raw: ConsumerRecord, envelope: Envelope, error: TooComplex, tables: str = "") -> ProducerRecord:
    """Build the dead letter of an event whose clinical content exceeds a limit (mapping.md §1.1)."""
    value, path, event = redacted_value(raw, envelope), short(error.path), envelope.event_key
    problems = orjson.dumps([{"code": TOO_COMPLEX, "problem": error.limit, "path": path}]).decode()
    return dead_letter(raw, value, TOO_COMPLEX, path, problems, event, tables, envelope.flags)


def refusal_letter(
    raw: ConsumerRecord, envelope: Envelope, refusals: Sequence[Refusal], tables: str = ""
) -> ProducerRecord:
    """Build one dead letter for all resources that an event's mapping had to refuse.

    A redrive maps the whole event again, so that one letter is enough.
    """
    problems = [
        {"code": refusal.code, "resource": refusal.resource_type, "path": problem.path, "problem": problem.code}
        for refusal in refusals
        for problem in refusal.problems
    ] or [{"code": refusal.code, "resource": refusal.resource_type} for refusal in refusals]
    first = refusals[0]
    path = first.problems[0].path if first.problems else first.resource_type
    shown = orjson.dumps(problems[:MAX_PROBLEMS]).decode()
    value, event = redacted_value(raw, envelope), envelope.event_key
    return dead_letter(raw, value, first.code, path, shown, event, tables, envelope.flags)


def too_large_letter(raw: ConsumerRecord, topic: str, tables: str = "") -> ProducerRecord:
    """Build the dead letter of an event of which a record for ``topic`` exceeds what Kafka takes."""
    envelope = envelope_of(raw)  # does not raise: the record that is too large was made from it
    value, event = redacted_value(raw, envelope), envelope.event_key
    return dead_letter(raw, value, TOO_LARGE, topic, event=event, tables=tables, flags=envelope.flags)


def smaller_letters(raw: ConsumerRecord, letter: ProducerRecord) -> Iterator[ProducerRecord]:
    """Yield smaller forms of a letter that is itself too large, largest first.

    The first goes without its value, the second also without a key or a header longer than `SHORT`. Both name the raw
    record, which has what they leave out. The headers that identify the event (tenant, time of receipt, first raw
    record) are short in every valid record, and stay.
    """
    yield replace(letter, value=None)
    own = (headers.ERROR_CODE, headers.ERROR_PATH, headers.EVENT_KEY, headers.TABLES_VERSION)
    code, path, event, tables = (headers.header(letter.headers, name) or "" for name in own)
    flags = body_flags(letter)
    last = {name: sent for name, sent in raw.headers if name in _PASSED_ON}
    short = [(name, sent) for name, sent in last.items() if sent and len(sent) <= SHORT]
    key = raw.key if raw.key and len(raw.key) <= SHORT else None
    yield dead_letter(replace(raw, key=key, headers=short), None, code, path, event=event, tables=tables, flags=flags)


def _raised_at(error: Exception) -> str:
    """Describe where an exception was raised: type, file and line. Its message may quote the payload."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    code = trace.tb_frame.f_code if trace else None
    module = code.co_filename.replace("\\", "/").rsplit("/", 2)[-2:] if code else ["?"]
    return f"{type(error).__name__} at {'/'.join(module)}:{trace.tb_lineno if trace else 0}"
