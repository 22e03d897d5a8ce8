"""The data keys that a process seals raw records with: one for each patient, made at the patient's first event.

A key is durable in ``normalizer.keys`` before the first record that is sealed with it is produced. The process keeps it
for `USED_SECONDS`. It need not know the keys of other processes: several keys of one patient do no harm, and none has
to be read, so that a gateway cannot open what is stored.
"""

import time
from collections import OrderedDict
from typing import NamedTuple

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import DataKey, UnusedKeys
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets, encryption
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import vendor_of
from fhirline.topics.partition import partition_for

USED_SECONDS = 3600.0
"""Seconds that a process uses a key. One that was destroyed meanwhile may seal events for as long
(docs/encryption.md)."""

MOST = 100_000
"""Keys that a process keeps, the ones used last."""


def _now() -> float:
    """Return the seconds of a clock that goes on while the machine is suspended, as ``time.monotonic`` does not."""
    return time.time()


class Patient(NamedTuple):
    """The topic, key, and partition of a patient's raw records."""

    topic: str
    key: bytes
    partition: int


class NewKey(NamedTuple):
    """A data key that this process has made. ``at``: a moment before it was made (`_now`)."""

    patient: Patient
    key: DataKey
    at: float

    @property
    def record(self) -> ProducerRecord:
        """Return the key's record in ``normalizer.keys``."""
        return self.key.record(self.patient.partition)


class PatientKeys:
    """The keys of one process."""

    def __init__(self, secrets: EncryptionSecrets) -> None:
        self._secrets = secrets
        self._unused = UnusedKeys()
        self._keys: OrderedDict[Patient, NewKey] = OrderedDict()

    @classmethod
    def of(cls, settings: Settings) -> "PatientKeys | None":
        """Return the keys of a process with these settings; None where nothing is encrypted."""
        secrets = encryption(settings)
        return None if secrets is None else cls(secrets)

    def known(self, patient: Patient) -> DataKey | None:
        """Return the patient's key, if this process has one that may still be used."""
        found = self._keys.get(patient)
        if found is None or not 0 <= _now() - found.at <= USED_SECONDS:
            return None
        self._keys.move_to_end(patient)
        return found.key

    def new(self, patient: Patient) -> NewKey:
        """Make a key. It may be used once Kafka has acknowledged its record, and is kept then (`keep`)."""
        at = _now()
        index = self._secrets.index(f"{vendor_of(patient.topic)}|{patient.key.decode()}")
        return NewKey(patient, DataKey.new(self._secrets, index, patient.partition, self._unused), at)

    def keep(self, made: NewKey) -> None:
        """Use a key from now on: Kafka has acknowledged its record."""
        self._keys[made.patient] = made
        self._keys.move_to_end(made.patient)
        while len(self._keys) > MOST:
            self._keys.popitem(last=False)


def patient_of(record: ProducerRecord, partitions: int) -> Patient:
    """Return the patient of a raw record. ``partitions``: of its topic.

    The partition follows from the plain key, as without encryption.
    """
    partition = partition_for(record.key, partitions) if record.partition is None else record.partition
    return Patient(record.topic, record.key, partition)


def to_be_sealed(record: ProducerRecord, partition: int, key: DataKey) -> ProducerRecord:
    """Return a raw record with its partition and its data key. `dataclasses.replace` would take ten times as long."""
    return ProducerRecord(
        record.topic, record.key, record.value, partition, record.headers, record.timestamp_ms, data_key=key
    )
