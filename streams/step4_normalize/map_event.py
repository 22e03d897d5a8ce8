"""Mapping of one raw record to all records that are published for it. Pure: no Kafka client, no clock.

No event can end the worker. Every failure of an event becomes its dead letter, which is published in the same barrier
as everything else, so that the event's offset may be committed (faust.md §2.3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.table_digests import tables_version
from fhirline.mappers import MAPPING_VERSION
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody
from fhirline.mappers.pipeline.limits import TooComplex
from fhirline.mappers.pipeline.normalize import Normalized, Normalizer, Output, State, StateUpdate
from fhirline.mappers.pipeline.practitioner_fold import ContributionKey, contributed, encoded, version_of
from fhirline.mappers.registry import raw_key
from fhirline.mappers.results import Version
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.encryption.opener import is_sealed
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.observe.gc_tuning import collector_suspended
from fhirline.streams.step4_normalize.dead_letter import (
    CANNOT_BE_OPENED,
    MAPPING_FAILED,
    TOO_COMPLEX,
    TOO_LARGE,
    WORKER_ENDED,
    dead_letter,
    failure_letter,
    refusal_letter,
    too_complex_letter,
    too_large_letter,
    unopened_letter,
    unreadable_letter,
)
from fhirline.streams.step4_normalize.raw_event import body_flags, envelope_of
from fhirline.topics.declared import BUNDLE, CONTRIBUTIONS, OUTCOME, SHARED_TYPES, canonical_topic
from fhirline.topics.partition import partition_for


@dataclass(frozen=True, slots=True)
class MappedEvent:
    """A mapped raw record: the records to publish, and the state updates.

    For a Practitioner there is no record of the resource, but one of what the raw partition contributes to it, for
    `step2_consume.practitioners`.
    """

    records: tuple[ProducerRecord, ...]
    state_updates: tuple[StateUpdate, ...] = ()
    key: str = ""
    """``tenant|patient key`` (`mappers.registry.raw_key`); empty for unreadable events and erased patients."""
    normalized: Normalized | None = None
    error: str | None = None
    """The stable code of the dead letter; None where there is none."""
    erased: str = ""
    """The event key of an erased patient's event, of which nothing is made (mapping.md §3.5); else empty."""

    @property
    def event_type(self) -> str | None:
        """Return the event's type; None where it was not mapped."""
        return self.normalized.event_type if self.normalized else None


def map_event(
    raw: ConsumerRecord,
    normalize: Normalizer,
    state: State,
    partitions: int,
    blocked: Callable[[Envelope], bool] | None = None,
) -> MappedEvent:
    """Map one raw record. Nothing is made of an event whose patient is ``blocked``.

    Raises ConfigurationError or KafkaAccessError where ``blocked`` cannot tell who is erased. Every other exception
    becomes a dead letter.
    """
    with collector_suspended(raw.value):
        return _map_event(raw, normalize, state, partitions, blocked)


def _map_event(
    raw: ConsumerRecord,
    normalize: Normalizer,
    state: State,
    partitions: int,
    blocked: Callable[[Envelope], bool] | None,
) -> MappedEvent:
    tables = tables_version(normalize.terminology)
    if raw.key_destroyed:
        return MappedEvent((), erased=headers.header(raw.headers, headers.EVENT_KEY) or "unknown")
    if is_sealed(raw):  # the opener could not open it: it was changed
        return MappedEvent((dead_letter(raw, None, CANNOT_BE_OPENED, tables=tables),), error=CANNOT_BE_OPENED)
    try:
        envelope = envelope_of(raw)
    except UnreadableBody as error:
        return MappedEvent((unreadable_letter(raw, error, tables),), error=error.code)
    except Exception as error:  # noqa: BLE001  # a defect of reading: the value cannot be redacted, so it stays in raw
        return MappedEvent((unopened_letter(raw, error, tables),), error=MAPPING_FAILED)
    try:
        if blocked is not None and blocked(envelope):
            return MappedEvent((), erased=envelope.event_key)
        normalized = normalize(envelope, state)
        records = [*_outputs(raw, envelope, normalized, state, partitions, tables)]
    except (ConfigurationError, KafkaAccessError):
        raise
    except TooComplex as error:
        return MappedEvent((too_complex_letter(raw, envelope, error, tables),), key=_key(envelope), error=TOO_COMPLEX)
    except Exception as error:  # noqa: BLE001  # a defect of ours costs this event a dead letter, not the worker
        return MappedEvent((failure_letter(raw, envelope, error, tables),), key=_key(envelope), error=MAPPING_FAILED)
    code = None
    if normalized.refusals:
        code = normalized.refusals[0].code
        records.append(refusal_letter(raw, envelope, normalized.refusals, tables))
    return MappedEvent(tuple(records), normalized.state_updates, normalized.raw_key, normalized, code)


def _key(envelope: Envelope) -> str:
    """Return the raw key of an event whose mapping has failed; an empty text where the key cannot be computed."""
    try:
        return raw_key(envelope)
    except Exception:  # noqa: BLE001  # the defect has its dead letter
        return ""


def given_up(raw: ConsumerRecord, blocked_key: Callable[[str], bool]) -> MappedEvent:
    """Make only the dead letter of an event over which processes have ended.

    The letter has no value: reading it again may be what ended them. The raw record, which it names, has it. There is
    no letter where ``blocked_key`` holds for ``vendor|<key of the raw record>``: the patient is erased, and the
    letter's key would name the patient.
    """
    if raw.key_destroyed or blocked_key(f"{raw.vendor}|{(raw.key or b'').decode('utf-8', 'replace')}"):
        return MappedEvent((), erased=headers.header(raw.headers, headers.EVENT_KEY) or "unknown")
    return MappedEvent((dead_letter(raw, None, WORKER_ENDED, flags=body_flags(raw)),), error=WORKER_ENDED)


def state_too_large(raw: ConsumerRecord, topic: str, normalize: Normalizer) -> MappedEvent:
    """Make only the dead letter of an event that has a state entry larger than Kafka accepts.

    No other record of the event goes out: what later events fold would contradict it. A redrive maps it as a whole.
    """
    return MappedEvent((too_large_letter(raw, topic, tables_version(normalize.terminology)),), error=TOO_LARGE)


def _outputs(
    raw: ConsumerRecord, envelope: Envelope, normalized: Normalized, state: State, partitions: int, tables: str
) -> Sequence[ProducerRecord]:
    """Make the records of resources, contributions, Bundle and outcome, each with topic, partition and headers."""
    common = headers.headers(
        vendor=envelope.vendor,
        tenant=envelope.tenant,
        event_type=normalized.event_type,
        raw=str(raw.position),
        mapping_version=MAPPING_VERSION,
        tables_version=tables,
    )
    of_version: dict[Version, headers.Headers] = {}  # most of an event's records have the event's own version

    def headers_for(version: Version) -> headers.Headers:
        own = of_version.get(version)
        if own is None:
            own = common + headers.headers(event_key=version.event_key, occurred_at=version.at)
            of_version[version] = own
        return own

    def record(topic: str, output: Output) -> ProducerRecord:
        partition = partition_for(output.partition_by, partitions)
        own = headers_for(output.version)
        return ProducerRecord(topic, output.key.encode(), output.value, partition, own, constant=output.constant)

    records = [
        record(canonical_topic(resource_type), output)
        for output in normalized.outputs
        if (resource_type := output.resource["resourceType"]) not in SHARED_TYPES
    ]
    for subject, entries in contributed(normalized.state_updates, state).items():
        key = ContributionKey(envelope.vendor, envelope.tenant, subject, str(raw.topic_partition)).text
        own = headers_for(version_of(entries))
        records.append(ProducerRecord(CONTRIBUTIONS, key, encoded(entries), partition_for(subject, partitions), own))
    if normalized.bundle:
        records.append(record(BUNDLE, normalized.bundle))
    if normalized.outcome:
        records.append(record(OUTCOME, normalized.outcome))
    return records
