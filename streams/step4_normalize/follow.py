"""A raw record in, the records that follow from it out. Pure: no Kafka client, no clock.

Nothing raises out of here (faust.md §2.3): whatever goes wrong with one event becomes its dead letter, which is
delivered in the same barrier as everything else, so that its offset may be committed without losing it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.config.tables import secrets
from fhirline.config.vendors import DEFAULT_TENANT, SLUG
from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.identity import escape_part
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody, event_key, open_envelope, read_body
from fhirline.mappers.pipeline.normalize import Normalized, Normalizer, Output, Refusal, State, StateUpdate
from fhirline.mappers.pipeline.redaction import comparable, redact
from fhirline.mappers.registry import raw_key
from fhirline.mappers.results import Version
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.topics.declared import BUNDLE, OUTCOME, canonical_topic, dead_letter_topic
from fhirline.topics.partition import partition_for

UNREADABLE_HEADER = "bad-header"
MAPPING_FAILED = "mapping-failed"
TOO_LARGE = "record-too-large"
MAX_PROBLEMS = 20
SHORT = 1_024
"""Bytes of a key or header that fit into any letter."""


@dataclass(frozen=True, slots=True)
class Followed:
    """All that follows from one raw record."""

    records: tuple[ProducerRecord, ...]
    statements: tuple[StateUpdate, ...] = ()
    key: str = ""
    """``tenant|patient key`` (`mappers.registry.raw_key`); empty where the event could not be opened, or is erased."""
    normalized: Normalized | None = None
    error: str | None = None
    """Stable code of the dead letter, if there is one."""
    erased: str = ""
    """The event key, where the patient is erased: then nothing follows (mapping.md §3.5)."""


def follow(
    raw: ConsumerRecord,
    normalize: Normalizer,
    remembered: State,
    partitions: int,
    blocked: Callable[[Envelope], bool] | None = None,
) -> Followed:
    """Map one raw record; never raises over what the record holds. Of ``blocked`` patients nothing is made."""
    try:
        envelope = envelope_of(raw)
    except UnreadableBody as error:
        return Followed((dead_letter(raw, raw.value, error.code),), error=error.code)
    key = ""
    try:
        if blocked is not None and blocked(envelope):
            return Followed((), erased=envelope.event_key)
        key = raw_key(envelope)
        normalized = normalize(envelope, remembered)
        records = [*_outputs(raw, envelope, normalized, partitions)]
    except ConfigurationError:  # who is erased cannot be told: no event may be mapped, and no letter hide that
        raise
    except Exception as error:  # noqa: BLE001  # a defect of ours must cost this event a dead letter, not the worker
        where = _where(error)
        letter = dead_letter(raw, redacted_value(raw, envelope), MAPPING_FAILED, where, event=envelope.event_key)
        return Followed((letter,), key=key, error=MAPPING_FAILED)
    code = None
    if normalized.refusals:
        code = normalized.refusals[0].code
        records.append(_refused(raw, envelope, normalized.refusals))
    return Followed(tuple(records), normalized.state_updates, key, normalized, code)


def envelope_of(raw: ConsumerRecord) -> Envelope:
    """The envelope of a raw record, also of one from another producer, without our headers (architecture.md §3.2).

    Then the record's timestamp and the default tenant stand in.
    """
    if raw.value is None:
        raise UnreadableBody("empty", "the record has no value")
    tenant = headers.header(raw.headers, headers.TENANT) or DEFAULT_TENANT
    if not re.fullmatch(SLUG, tenant):
        raise UnreadableBody(UNREADABLE_HEADER, "the header tenant is no slug")
    received = Instant.parse(headers.header(raw.headers, headers.RECEIVED_AT))
    received = received or Instant.from_unix(Decimal(raw.timestamp_ms) / 1000)
    if received is None:
        raise UnreadableBody(UNREADABLE_HEADER, "neither the header received-at nor the timestamp is readable")
    route_event = headers.header(raw.headers, headers.EVENT_TYPE)
    return open_envelope(raw.vendor, tenant, raw.value, received, route_event)


def _outputs(
    raw: ConsumerRecord, envelope: Envelope, normalized: Normalized, partitions: int
) -> Sequence[ProducerRecord]:
    common = headers.headers(
        vendor=envelope.vendor,
        tenant=envelope.tenant,
        event_type=normalized.event_type,
        raw=str(raw.position),
        mapping_version=MAPPING_VERSION,
    )
    stamped: dict[Version, headers.Headers] = {}  # most of an event's records bear its own version

    def record(topic: str, output: Output) -> ProducerRecord:
        own = stamped.get(output.version)
        if own is None:
            own = common + headers.headers(event_key=output.version.event_key, occurred_at=output.version.at)
            stamped[output.version] = own
        partition = partition_for(output.partition_by, partitions)
        return ProducerRecord(topic, output.key.encode(), output.value, partition, own, constant=output.constant)

    records = [record(canonical_topic(output.resource["resourceType"]), output) for output in normalized.outputs]
    if normalized.bundle:
        records.append(record(BUNDLE, normalized.bundle))
    if normalized.outcome:
        records.append(record(OUTCOME, normalized.outcome))
    return records


def _refused(raw: ConsumerRecord, envelope: Envelope, refusals: Sequence[Refusal]) -> ProducerRecord:
    """One letter for all that an event's mapping could not make: redriving maps the event again, whole."""
    problems = [
        {
            "code": refusal.code,
            "resource": refusal.resource_type,
            "path": problem.path,
            "problem": problem.code,
        }
        for refusal in refusals
        for problem in refusal.problems
    ] or [{"code": refusal.code, "resource": refusal.resource_type} for refusal in refusals]
    first = refusals[0]
    path = first.problems[0].path if first.problems else first.resource_type
    shown = orjson.dumps(problems[:MAX_PROBLEMS]).decode()
    return dead_letter(raw, redacted_value(raw, envelope), first.code, path, errors=shown, event=envelope.event_key)


def dead_letter(
    raw: ConsumerRecord, value: bytes | None, code: str, path: str = "", errors: str = "", event: str = ""
) -> ProducerRecord:
    """A dead letter: the raw value as it was, and in the headers a stable code, a path, and where it came from.

    The headers never hold a value of the payload. A value that could not be parsed, so not redacted, and that names a
    secret (mapping.md §7) is left out: the raw record, whose coordinates are in the headers, still has it.
    """
    if value is not None and code in ("not-json", "too-deep") and names_a_secret(value):
        value = None
    tenant = headers.header(raw.headers, headers.TENANT) or DEFAULT_TENANT
    return ProducerRecord(
        dead_letter_topic(raw.vendor),
        raw.key or f"{escape_part(tenant)}|record/{raw.partition}/{raw.offset}".encode(),
        value,
        None,
        [
            *((name, held) for name, held in raw.headers if name in _PASSED_ON and held),
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
            *([] if headers.header(raw.headers, headers.ATTEMPT) else headers.headers(attempt="1")),
        ],
    )


def too_large_letter(raw: ConsumerRecord, topic: str) -> ProducerRecord:
    """The letter of an event of which a record for ``topic`` exceeds what Kafka takes."""
    envelope = envelope_of(raw)  # it has been read before: what is too large was made from it
    return dead_letter(raw, redacted_value(raw, envelope), TOO_LARGE, topic, event=envelope.event_key)


def smaller_letters(raw: ConsumerRecord, letter: ProducerRecord) -> Iterator[ProducerRecord]:
    """A letter that is itself too large, in ever less room: without its value, then without a key or header that is
    longer than `SHORT`.

    The raw record, which each of them names, has what is left out. What tells whose event it is (the tenant), when it
    came and of which case it is stays: those are short wherever they say anything.
    """
    yield replace(letter, value=None)
    own = (headers.ERROR_CODE, headers.ERROR_PATH, headers.EVENT_KEY)
    code, path, event = (headers.header(letter.headers, name) or "" for name in own)
    last = {name: held for name, held in raw.headers if name in _PASSED_ON}
    short = [(name, held) for name, held in last.items() if held and len(held) <= SHORT]
    key = raw.key if raw.key and len(raw.key) <= SHORT else None
    yield dead_letter(replace(raw, key=key, headers=short), None, code, path, event=event)


def not_remembered(raw: ConsumerRecord, topic: str) -> Followed:
    """What follows from an event of which a register exceeds what Kafka takes: its letter alone.

    Nothing else of it goes out. What later events fold would contradict it, and the letter is sent again as a whole.
    """
    return Followed((too_large_letter(raw, topic),), error=TOO_LARGE)


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


def names_a_secret(value: bytes) -> bool:
    """Whether unparseable bytes name a key of secrets.yaml anywhere."""
    text = comparable(value.decode("utf-8", "replace"))
    return any(comparable(name) in text for name in (*secrets().redacted, *secrets().redacted_below))


def redacted_value(raw: ConsumerRecord, envelope: Envelope) -> bytes | None:
    """The raw value byte for byte; redacted where a foreign producer had not done it."""
    if raw.value is None:
        return None
    body = read_body(raw.value)
    return raw.value if redact(body) is body and event_key(body) == envelope.event_key else orjson.dumps(envelope.body)


def _where(error: Exception) -> str:
    """Where in our code a defect shows: file and line, never the message, which may quote the payload."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = trace.tb_frame.f_code if trace else None
    module = place.co_filename.replace("\\", "/").rsplit("/", 2)[-2:] if place else ["?"]
    return f"{type(error).__name__} at {'/'.join(module)}:{trace.tb_lineno if trace else 0}"
