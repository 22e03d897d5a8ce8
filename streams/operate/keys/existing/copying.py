"""Encrypted copies of records, with data keys that are durable before them.

A copy has the partition, the timestamp, the key, the value and the headers of its record. Its header ``copy-of`` names
the record. Where another producer's record has no ``received-at``, the copy has its timestamp there: the mapping reads
the time of receipt there, and a topic may be configured to replace timestamps (`dead_letters.redrive` does the same).

* A plain record is encrypted with the newest living data key of its patient, or with a new one.
* An encrypted record is encrypted anew with its own data key, since its headers are authenticated.
* An encrypted record that cannot be opened although nothing is lost is copied as it is.
* A record of an erased patient is not copied: its removal completes the erasure.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

from fhirline.config.settings import Settings
from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.mappers.identity import escape_part
from fhirline.mappers.instants import Instant
from fhirline.mappers.registry import raw_key
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.key_ring import KeyRing
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets
from fhirline.streams.kafka.headers import COPY_OF, EVENT_KEY, RAW, RECEIVED_AT, TENANT, Headers, header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, RecordPosition
from fhirline.streams.operate.keys.existing.moved import Moved
from fhirline.streams.operate.keys.existing.survey import LETTERS, of_ours
from fhirline.streams.step3_restore.erasure_list_feed import ErasureListFeed
from fhirline.streams.step4_normalize.raw_event import envelope_of
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from fhirline.topics.partition import partition_for


class CannotBeCopied(PublishFailed):
    """An encrypted copy is larger than Kafka takes."""


@dataclass(frozen=True, slots=True)
class OriginalRecord:
    """A record as its writer made it: opened, and without the headers that only its storage needs."""

    record: ConsumerRecord
    headers: Headers

    @property
    def opened(self) -> bool:
        """Tell whether the record was plain, or could be opened."""
        return not is_sealed(self.record)


@dataclass(slots=True)
class Copier:
    """Makes and writes copies."""

    settings: Settings
    secrets: EncryptionSecrets
    ring: KeyRing
    opener: Opener
    moved: Moved
    erasures: ErasureListFeed = field(init=False)
    publisher: RecordPublisher = field(init=False)

    def __post_init__(self) -> None:
        self.erasures = ErasureListFeed(self.settings)
        self.publisher = RecordPublisher(self.settings)

    def close(self) -> None:
        self.erasures.close()

    def originals(self, records: Sequence[ConsumerRecord]) -> list[OriginalRecord | None]:
        """Open records. None for those of erased patients."""
        self.opener.read_on(records)
        if partitions := {number for record in records if (number := self._keys_partition(record)) is not None}:
            self.ring.read_on(partitions)
        if not self.erasures.fresh:
            self.erasures.refresh()
        return [self._original(record) for record in records]

    def copy(self, records: Sequence[ConsumerRecord]) -> int:
        """Write the copies of records; return once Kafka has acknowledged them. Returns how many were left out."""
        found = [item for item in self.originals(records) if item is not None]
        new: dict[str, ProducerRecord] = {}
        copies = []
        known: dict[str, DataKey] = {}
        for item in found:
            record, sent = item.record, item.headers
            key = record.data_key
            number = self._keys_partition(record)
            if key is None and item.opened and number is not None:
                index = self.secrets.index(owner(record, number, self.settings.partitions)[1])
                key = known.get(index) or self.ring.living(number, index)
                if key is None:
                    key = DataKey.new(self.secrets, index, number)
                    new[index] = key.record(number)
                known[index] = key
            own = [*(self.moved.forward(sent) if item.opened else sent), (COPY_OF, str(record.position).encode())]
            copies.append(
                ProducerRecord(
                    record.topic,
                    record.key or b"",
                    record.value,
                    record.partition,
                    own,
                    max(1, record.timestamp_ms),  # librdkafka takes 0 for the time of writing
                    data_key=key,
                )
            )
        self.write(new.values())
        self.write(copies)
        return len(records) - len(found)

    def write(self, records: Iterable[ProducerRecord]) -> None:
        """Write records. Raises PublishFailed."""
        for record in self.publisher.publish(records):
            raise CannotBeCopied(
                f"{header(record.headers, COPY_OF) or record.topic}: encrypted it is larger than Kafka takes: raise "
                "FHIRLINE_MESSAGE_MAX_BYTES, and run `fhirline topics apply` and this again"
            )

    def _original(self, record: ConsumerRecord) -> OriginalRecord | None:
        opened = self.opener.open(record)
        if opened.key_destroyed:
            return None
        sent = [item for item in opened.headers if item[0] != COPY_OF]
        if not is_sealed(opened):
            number = self._keys_partition(opened)
            patient, name = owner(opened, number, self.settings.partitions)
            if self.erasures.erasure_list.blocks_key(patient):
                return None
            if number is not None and self.secrets.index(name) in self.ring.partition(number).erased:
                return None
            if not record.topic.startswith(LETTERS) and header(sent, RECEIVED_AT) is None:
                at = Instant.from_unix(Decimal(opened.timestamp_ms) / 1000)
                sent += [(RECEIVED_AT, at.text.encode())] if at else []
        return OriginalRecord(opened, sent)

    def sealable(self, record: ConsumerRecord) -> bool:
        """Tell whether a plain record can be encrypted."""
        return self._keys_partition(record) is not None

    def _keys_partition(self, record: ConsumerRecord) -> int | None:
        return keys_partition(record, self.settings.partitions)


def keys_partition(record: ConsumerRecord, partitions: int) -> int | None:
    """Return the partition of ``normalizer.keys`` that a record's data key belongs to.

    None for a letter that names no raw record: nobody could find its key, so it cannot be encrypted.
    """
    if not record.topic.startswith(LETTERS):
        return record.partition
    raw = RecordPosition.parse(header(record.headers, RAW))
    return raw.partition if raw and raw.partition < partitions else None


def owner(record: ConsumerRecord, number: int | None, partitions: int) -> tuple[str, str]:
    """Return the ``vendor|tenant|patient key`` of a plain record, and the name whose data key encrypts it.

    A record of ours has the patient as its key, and a letter the key of its raw record. Another producer's record may
    have any key, so the patient is read from its body. The two results are the same, unless the record is in another
    partition than its patient's (``number``: the partition of its data key), or cannot be read. Then it has a data key
    of its own, which an erasure finds by the record.
    """
    patient = ""
    if record.key and (record.topic.startswith(LETTERS) or of_ours(record)):
        patient = record.key.decode("utf-8", "replace")
    else:
        with suppress(Exception):  # unreadable; a defect of the mapping, too, costs only the patient's name
            patient = raw_key(envelope_of(record))
    named = f"{record.vendor}|{patient}"
    if patient and number == partition_for(patient, partitions):
        return named, named
    tenant = header(record.headers, TENANT) or DEFAULT_TENANT
    own = header(record.headers, EVENT_KEY) or f"{record.topic}/{record.partition}/{record.offset}"
    return named, f"{record.vendor}|{escape_part(tenant)}|record/{own}"
