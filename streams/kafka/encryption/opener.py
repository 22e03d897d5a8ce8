"""Open sealed records as they are read. No other module does.

* A record that is not sealed passes as it is.
* A sealed record is opened: it has the plain key and value, no header ``key-id``, and ``data_key``, with which the
  records that are made of it are sealed.
* The record of a patient whose keys were destroyed has ``key_destroyed``: nobody can read it, and nothing is lost. So
  has a changed record of an erased patient: its index is enough to know whose it is.
* A record that cannot be opened although nothing is lost (its bytes, headers or key-id were changed) passes as it is,
  with its header ``key-id``. The mapping makes the dead letter ``cannot-be-opened`` of it.
* A key that is lost raises DataKeyMissing, and secrets that are not set raise EncryptionNotSet: nothing may be
  committed, since the events can be read again once the key is restored. Where ``normalizer.keys`` has no record, no
  process has ever sealed anything: a record with the header is then another producer's, and cannot be opened.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from confluent_kafka import Message

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import CannotBeOpened
from fhirline.streams.kafka.encryption.key_ring import DataKeyMissing, KeyRing
from fhirline.streams.kafka.encryption.secrets import WrappingKeyMissing, encryption
from fhirline.streams.kafka.headers import KEY_ID, MOVED_TO, RAW, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition, from_confluent
from fhirline.topics.declared import KEYS

_INDEX = re.compile(rb"([0-9a-f]{64})(/[0-9a-f]{32})?")
_NUMBER = re.compile(r"[0-9a-f]{32}")
_LETTERS = "dead-letter."
SEALED_TOPICS = ("raw.", _LETTERS, "normalizer.state.")
"""Beginnings of the names of topics that have sealed records."""


class EncryptionNotSet(ConfigurationError):
    """A record is sealed, and this process has no encryption secrets."""


class Opener:
    """Opens records. Keys are read from Kafka when the first sealed record comes."""

    def __init__(self, settings: Settings) -> None:
        self.secrets = encryption(settings)
        self._settings = settings
        self._partitions = settings.partitions
        self._keys_exist: bool | None = None
        """True where ``normalizer.keys`` has a record; None where it is not known. It is asked without secrets only."""
        self.ring = KeyRing(settings, self.secrets) if self.secrets else None

    def close(self) -> None:
        if self.ring is not None:
            self.ring.close()

    def keep(self, partitions: Iterable[int]) -> None:
        """Drop the keys of all other partitions of the raw topics."""
        if self.ring is not None:
            self.ring.keep(partitions)

    def needs_keys(self, records: Iterable[ConsumerRecord]) -> bool:
        """Tell whether `read_on` is needed before these records can be opened."""
        if self.ring is None:
            return any(map(is_sealed, records))
        return bool(self._unsure(records))

    def read_on(self, records: Iterable[ConsumerRecord], since: float = float("inf")) -> None:
        """Read the keys that these records need and that are not known. Blocks. Raises KafkaAccessError.

        ``since``: what was read after it (``time.monotonic``) is taken as known of erased patients.
        """
        if self.ring is None:
            if any(map(is_sealed, records)):
                self._look_for_keys()
        elif partitions := self._unsure(records, since):
            self.ring.read_on(partitions)

    def open(self, record: ConsumerRecord) -> ConsumerRecord:
        """Open a record whose keys have been read.

        Raises DataKeyMissing, WrappingKeyMissing and EncryptionNotSet, with the record's position.
        """
        if not is_sealed(record):
            return record
        if self.ring is None:
            if self._keys_exist is False:
                return record
            raise not_set(record.position)
        needed = self._needed(record)
        if needed is None:
            return record
        partition, index, number = needed
        if self.ring.erased(partition, index):
            return replace(record, key_destroyed=True)
        if record.value is None or not _NUMBER.fullmatch(number):
            return record
        if not self.ring.made(partition, index, number):
            if self.ring.destroyed(partition, index, number):
                return replace(record, key_destroyed=True)
            if self.ring.has(partition, index, number):
                raise other_index(record.position)
            return record
        try:
            key = self.ring.find(*needed)
        except (DataKeyMissing, WrappingKeyMissing) as missing:
            raise type(missing)(f"{record.position} cannot be opened: {missing}") from None
        if key is None:
            return replace(record, key_destroyed=True)
        try:
            plain_key, value = key.open(record.topic, record.key or b"", record.value, record.headers)
        except CannotBeOpened:
            return record
        headers = [item for item in record.headers if item[0] != KEY_ID]
        return replace(record, key=plain_key, value=value, headers=headers, data_key=key)

    def open_now(self, record: ConsumerRecord, since: float = float("inf")) -> ConsumerRecord:
        """Read on where needed, and open a record. Blocks. Raises as `open` and `read_on` do."""
        self.read_on([record], since)
        return self.open(record)

    def open_message(self, message: Message, since: float = float("inf")) -> Message | None:
        """Open a message as `open_now` does a record.

        None where its keys were destroyed, and for the tombstone of a state entry that has moved to another key.
        """
        if not (message.topic() or "").startswith(SEALED_TOPICS):
            return message
        record = from_confluent(message)
        if not is_sealed(record):
            moved = record.value is None and header(record.headers, MOVED_TO) is not None
            return None if moved else message
        opened = self.open_now(record, since)
        if opened.key_destroyed:
            return None
        if opened is record:
            return message
        return Message(
            topic=opened.topic,
            partition=opened.partition,
            offset=opened.offset,
            key=opened.key,
            value=opened.value,
            headers=[*opened.headers],
            timestamp=message.timestamp(),
        )

    def require_secrets(self, tombstone: ConsumerRecord) -> None:
        """Raise EncryptionNotSet for the tombstone of a sealed state entry, which this process cannot apply.

        It has no header. Where no process has ever sealed anything, it is another producer's. Blocks.
        """
        if self.secrets is None and _INDEX.fullmatch(tombstone.key or b""):
            self._look_for_keys()
            if self._keys_exist:
                raise not_set(tombstone.position)

    def _look_for_keys(self) -> None:
        if not self._keys_exist:
            self._keys_exist = keys_exist(self._settings)

    def _unsure(self, records: Iterable[ConsumerRecord], since: float = float("inf")) -> set[int]:
        """Return the partitions of ``normalizer.keys`` that must be read on.

        For a number that is not of this deployment, too: it may be of one with another index secret.
        """
        if self.ring is None:
            return set()
        sealed = [(record, needed) for record in records if is_sealed(record) and (needed := self._needed(record))]
        return {needed[0] for record, needed in sealed if record.value is None or not self.ring.sure(*needed, since)}

    def _needed(self, record: ConsumerRecord) -> tuple[int, str, str] | None:
        """Return partition, index and number of the key that a record needs. The number may have another form.

        None where the record does not tell the partition.
        """
        number, index = header(record.headers, KEY_ID) or "", _INDEX.fullmatch(record.key or b"")
        partition: int | None = record.partition
        if record.topic.startswith(_LETTERS):
            raw = RecordPosition.parse(header(record.headers, RAW))
            partition = raw.partition if raw and raw.partition < self._partitions else None
        if index is None or partition is None:
            return None
        return partition, index[1].decode(), number


def keys_exist(settings: Settings) -> bool:
    """Tell whether ``normalizer.keys`` has any record. Blocks. Raises KafkaAccessError."""
    with LogScanner(settings) as scanner:
        return any(True for _ in scanner.stored(dict.fromkeys(scanner.topic_partitions([KEYS]))))


def not_set(position: RecordPosition) -> EncryptionNotSet:
    """Return the error of a process without secrets that meets a sealed record."""
    return EncryptionNotSet(
        f"FHIRLINE_ENCRYPTION: not set, and {position} is encrypted: set it, or FHIRLINE_ENCRYPTION_FILE"
    )


def other_index(where: object) -> WrappingKeyMissing:
    """Return the error of a process whose index secret is not the one that data keys were made with."""
    return WrappingKeyMissing(
        f"FHIRLINE_ENCRYPTION: the index secret is another than the one that {where} was encrypted with: give every "
        "process the same secrets"
    )


def is_sealed(record: ConsumerRecord) -> bool:
    """Tell whether a record has the header ``key-id`` and the key of a sealed record.

    Another producer may have a header of that name, too.
    """
    return any(name == KEY_ID for name, _ in record.headers) and _INDEX.fullmatch(record.key or b"") is not None
