"""The data keys that a process seals raw records with: one for each patient, made at the patient's first event.

A key is durable in ``normalizer.keys`` before the first record that is sealed with it is produced. The process keeps it
for `USED_SECONDS`. It need not know the keys of other processes: several keys of one patient do no harm, and none has
to be read, so that a gateway cannot open what is stored.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets, encryption
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import vendor_of
from fhirline.topics.partition import partition_for

USED_SECONDS = 3600.0
"""How long a process uses a key. One that was destroyed meanwhile may seal events for as long (docs/encryption.md)."""

MOST = 100_000
"""Keys that a process keeps, the ones used last."""


def _now() -> float:
    """Return the seconds of a clock that goes on while the machine is suspended, as ``time.monotonic`` does not."""
    return time.time()


class PatientKeys:
    """The keys of one process. ``secrets`` None: nothing is sealed."""

    def __init__(self, settings: Settings) -> None:
        self.secrets: EncryptionSecrets | None = encryption(settings)
        self._keys: OrderedDict[str, tuple[DataKey, float]] = OrderedDict()

    def known(self, index: str) -> DataKey | None:
        """Return the patient's key, if this process has one that may still be used."""
        found = self._keys.get(index)
        if found is None or not 0 <= _now() - found[1] <= USED_SECONDS:
            return None
        self._keys.move_to_end(index)
        return found[0]

    def durable(self, key: DataKey, made_at: float) -> None:
        """Use a key from now on: Kafka has acknowledged its record. ``made_at``: before that (`_now`)."""
        self._keys[key.index] = key, made_at
        self._keys.move_to_end(key.index)
        while len(self._keys) > MOST:
            self._keys.popitem(last=False)


def partition_of(record: ProducerRecord, partitions: int) -> int:
    """Return the partition of a raw record: it follows from the plain key, as without encryption."""
    return partition_for(record.key, partitions) if record.partition is None else record.partition


def to_be_sealed(record: ProducerRecord, partition: int, key: DataKey) -> ProducerRecord:
    """Return a raw record with its partition and its data key. `dataclasses.replace` would take ten times as long."""
    return ProducerRecord(
        record.topic, record.key, record.value, partition, record.headers, record.timestamp_ms, data_key=key
    )


def patient_of(record: ProducerRecord) -> str:
    """Return the ``vendor|tenant|patient key`` of a raw record."""
    return f"{vendor_of(record.topic)}|{record.key.decode()}"


class AwaitedKeys:
    """Patient keys on an event loop. ``send`` returns when Kafka has acknowledged a record."""

    def __init__(self, settings: Settings, send: Callable[[ProducerRecord], Awaitable[None]]) -> None:
        self._keys = PatientKeys(settings)
        self._send = send

    @property
    def seals(self) -> bool:
        """Whether encryption is on."""
        return self._keys.secrets is not None

    async def with_key(self, record: ProducerRecord, partitions: int) -> ProducerRecord:
        """Return a raw record with the data key that it is to be sealed with. Raises what ``send`` raises.

        ``partitions``: of the record's topic.
        """
        secrets = self._keys.secrets
        if secrets is None or record.data_key is not None:
            return record
        partition, index = partition_of(record, partitions), secrets.index(patient_of(record))
        key = self._keys.known(index)
        if key is None:
            made_at = _now()
            key = DataKey.new(secrets, index, partition)
            await self._send(key.record(partition))
            self._keys.durable(key, made_at)
        return to_be_sealed(record, partition, key)
