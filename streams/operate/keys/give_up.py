"""Giving up data keys that are lost permanently, so that the records that they encrypt are passed over.

A process that meets a record whose data key is neither in ``normalizer.keys`` nor marked there as destroyed ends
without committing: the key may be restored. Once nobody can, the marker ``<index>/<number>/destroyed`` says so. The
marker of an erased patient's data key is the same.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.key_ring import DESTROYED, KeyRing
from fhirline.streams.kafka.encryption.opener import SEALED_TOPICS
from fhirline.streams.kafka.encryption.secrets import INDEX_DIGITS, EncryptionSecrets, WrappingKeyMissing, wrapped_by
from fhirline.streams.kafka.headers import KEY_ID, header
from fhirline.streams.kafka.log_scanner import LogScanner, Progress
from fhirline.streams.kafka.records import (
    ProducerRecord,
    RecordPosition,
    TopicPartition,
    headers_of,
    partition_of,
    timestamp_ms,
)
from fhirline.streams.step1_receive.patient_keys import USED_SECONDS
from fhirline.streams.step5_publish.publish import RecordPublisher
from fhirline.topics.declared import KEYS, STATE_PREFIX, declared

_NAME = re.compile(r"([0-9a-f]{64})/([0-9a-f]{32})")

Lost = dict[str, int]
"""Name of a data key (``<index>/<number>``) → its partition of ``normalizer.keys``."""


class NotLost(ConfigurationError):
    """The data key can be read, or was destroyed before."""


@dataclass(slots=True)
class Unreadable:
    """Count the records of one topic that become unreadable; of a state topic, the entries whose last value does."""

    records: int = 0
    first: str = ""
    last: str = ""
    """Partition and offset of the first and the last one."""

    def add(self, partition: TopicPartition, offset: int) -> None:
        self.records += 1
        self.last = f"{partition.partition}/{offset}"
        self.first = self.first or self.last


@dataclass(slots=True)
class Consequences:
    """The records that are lost with data keys."""

    topics: dict[str, Unreadable] = field(default_factory=dict)
    oldest_ms: dict[str, int] = field(default_factory=dict)
    """Data key → timestamp of its oldest raw record."""

    def in_use_until(self, settings: Settings) -> datetime | None:
        """Return until when a gateway or enrichment may encrypt with one of the keys; None where that is over.

        A process uses a key for an hour from its making, which was before its first record.
        """
        if not self.oldest_ms:
            return None
        longest = max(settings.gateway_delivery_timeout, settings.delivery_timeout)
        youngest = datetime.fromtimestamp(max(self.oldest_ms.values()) / 1000, UTC)
        until = youngest + timedelta(seconds=USED_SECONDS + longest)
        return until if until > datetime.now(UTC) else None


def name_at(settings: Settings, position: RecordPosition) -> str:
    """Return the name of the data key that the record at a position is encrypted with. Raises ConfigurationError."""
    partition = position.topic_partition
    with LogScanner(settings) as scanner:
        if partition.partition not in scanner.partitions(partition.topic) or scanner.end_before(position) is not None:
            raise ConfigurationError(f"{position}: there is no such record")
        for message in scanner.stored({partition: position.offset}, {partition: position.offset + 1}):
            number = header(headers_of(message), KEY_ID)
            if message.offset() == position.offset and number is not None:
                name = f"{(message.key() or b'')[:INDEX_DIGITS].decode('utf-8', 'replace')}/{number}"
                if not _NAME.fullmatch(name):
                    raise ConfigurationError(
                        f"{position}: its key or its header key-id has another form: no data key is missing"
                    )
                return name
    raise ConfigurationError(f"{position}: there is no encrypted record")


def named(settings: Settings, secrets: EncryptionSecrets, ring: KeyRing, name: str) -> Lost:
    """Return a data key that is lost, with its partition, which follows from its number.

    A data key that was made with another index secret is lost, too: nobody can use it with the secrets of today.

    Raises NotLost, and ConfigurationError where it is no data key of this deployment.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ConfigurationError(
            "INDEX/NUMBER: 64 hex digits, / and 32 hex digits: the key of the event's record, and its header key-id"
        )
    index, number = found.groups()
    partitions = [partition for partition in range(settings.partitions) if secrets.numbered(index, partition, number)]
    ours = bool(partitions)
    partitions = partitions or [
        partition for partition, keys in ring.each(range(settings.partitions)) if name in keys.wrapped
    ]
    if not partitions:
        raise ConfigurationError(
            "INDEX/NUMBER: no process with these secrets has made this data key: compare index secret and "
            "FHIRLINE_PARTITIONS"
        )
    partition = partitions[0]
    ring.read_on([partition])
    keys = ring.partition(partition)
    if keys.unusable(index, name):
        at = keys.destroyed.get(name) or keys.erased.get(index, "")
        since = at.partition(" ")[0]
        raise NotLost(f"data key {number}: is destroyed already, since {since}: its records are passed over")
    if ours and name in keys.wrapped:
        try:
            secrets.unwrap(name, keys.wrapped[name])
        except WrappingKeyMissing:
            pass
        else:
            raise NotLost(f"data key {number}: is in {KEYS}/{partition} and can be unwrapped: it is not lost")
    return {name: partition}


def wrapped_with(settings: Settings, secrets: EncryptionSecrets, ring: KeyRing, kek: str) -> Lost:
    """Return all living data keys that a lost key-encryption key wraps. Raises NotLost where it opens one of them."""
    found: Lost = {}
    for partition, keys in ring.each(range(settings.partitions)):
        for name, wrapped in keys.wrapped.items():
            if wrapped_by(wrapped) != kek or keys.unusable(name.partition("/")[0], name):
                continue
            try:
                secrets.unwrap(name, wrapped)
            except WrappingKeyMissing:
                found[name] = partition
            else:
                raise NotLost(f"--kek {kek}: is among the secrets and opens data keys: it is not lost")
    if not found:
        raise NotLost(f"--kek {kek}: wraps no living data key")
    return found


def consequences(settings: Settings, lost: Lost, progress: Progress | None = None) -> Consequences:
    """Find every record that is encrypted with these data keys. Raises KafkaAccessError."""
    found = Consequences()
    names = [topic.name for topic in declared(settings) if topic.name.startswith(SEALED_TOPICS)]
    wanted, indexes = lost.keys(), {name[:INDEX_DIGITS].encode() for name in lost}
    entries: dict[tuple[TopicPartition, bytes], int] = {}
    with LogScanner(settings, progress) as scanner:
        for message in scanner.stored(dict.fromkeys(scanner.topic_partitions(names))):
            key, offset, partition = message.key() or b"", message.offset() or 0, partition_of(message)
            if key[:INDEX_DIGITS] not in indexes:
                continue
            name = f"{key[:INDEX_DIGITS].decode()}/{header(headers_of(message), KEY_ID)}"
            if partition.topic.startswith(STATE_PREFIX):
                entries.pop((partition, key), None)
                if name in wanted:
                    entries[partition, key] = offset
            elif name in wanted:
                found.topics.setdefault(partition.topic, Unreadable()).add(partition, offset)
                if partition.topic.startswith("raw."):
                    at = timestamp_ms(message)
                    found.oldest_ms[name] = min(found.oldest_ms.get(name, at), at)
    for (partition, _), offset in entries.items():
        found.topics.setdefault(partition.topic, Unreadable()).add(partition, offset)
    return found


def give_up(settings: Settings, lost: Lost, at: str) -> None:
    """Write the markers; return once they are durable. Raises PublishFailed."""
    RecordPublisher(settings).publish(markers(lost, at))


def markers(lost: Lost, at: str) -> list[ProducerRecord]:
    """Make the records that mark data keys as destroyed, each in its own partition."""
    return [
        ProducerRecord(KEYS, f"{name}/{DESTROYED}".encode(), at.encode(), partition) for name, partition in lost.items()
    ]
