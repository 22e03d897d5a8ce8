"""Encryption secrets for tests, and raw records sealed as a gateway seals them."""

from collections.abc import Iterable

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.encryption.secrets import EncryptionSecrets, encryption
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.patient_keys import patient_of, to_be_sealed
from fhirline.topics.declared import vendor_of

INDEX, OLD, NEW = "11" * 32, "22" * 32, "33" * 32
ENCRYPTION = f"index:{INDEX} 2026-05:{OLD}"
ROTATED = f"index:{INDEX} 2026-11:{NEW} 2026-05:{OLD}"
"""After a rotation: the new key wraps, both unwrap."""


def secrets_of(settings: Settings) -> EncryptionSecrets:
    found = encryption(settings)
    assert found is not None, "the settings have no encryption"
    return found


class Sealer:
    """Gives raw records the data keys of their patients: one for each patient."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = secrets_of(settings)
        self._partitions = settings.partitions
        self.keys: dict[str, DataKey] = {}
        """Index → key."""
        self.made: list[ProducerRecord] = []
        """The records of the keys, to be written before the raw records."""

    def __call__(self, record: ProducerRecord) -> ProducerRecord:
        patient = patient_of(record, self._partitions)
        index = self._secrets.index(f"{vendor_of(patient.topic)}|{patient.key.decode()}")
        partition = patient.partition
        if index not in self.keys:
            self.keys[index] = DataKey.new(self._secrets, index, partition)
            self.made.append(self.keys[index].record(partition))
        return to_be_sealed(record, partition, self.keys[index])


def sealed(settings: Settings, records: Iterable[ProducerRecord]) -> tuple[list[ProducerRecord], list[ProducerRecord]]:
    """Return the records of the data keys, and the raw records with them."""
    sealer = Sealer(settings)
    raws = [sealer(record) for record in records]
    return sealer.made, raws
