"""The state of the delivery: what this stage has sent to the server, in ``normalizer.delivered`` (fhir-delivery.md §4).

The topic is compacted and has the partitions of the Bundle topic. Resources of shared types, which come from all
partitions, are in ``normalizer.delivered.shared``. A record is one of

* ``Type/id`` → the offset of the Bundle that it was last sent for, the digest of what was sent, and for
  a deleted one what became of its history;
* ``waiting/<offset>`` → a Bundle that waits, because the server refused it or an earlier one of its patient: whose it
  is, and which resources it holds. None of their content;
* ``waiting/topics/<Type/id>`` → the same of a patient, or another resource, that the server refused at a first fill,
  for which there is no Bundle;
* ``resume/<Patient/id>`` → an operator's order to send what waits for that patient;
* ``topic/fhir.r4.bundle`` → the id of the topic that the offsets are of, as the digest of a value that was sent: so an
  earlier version of the program can read it (`bundle_topic`).

Merging takes the greatest offset of each key, so a record that is read again, or that a process writes which has lost
its partition meanwhile, changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from fhirline.streams.deliver.entries import Entry
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition
from fhirline.topics.declared import BUNDLE, DELIVERED, DELIVERED_SHARED

WAITING, RESUME, TOPICS = "waiting/", "resume/", "topics/"
TOPIC = f"topic/{BUNDLE}"


@dataclass(frozen=True, slots=True)
class Sent:
    """The value of a resource that was sent last. ``offset``: the offset of the Bundle that it was sent for.

    ``history``: for a deleted one, the outcome of purging its earlier versions at the server (`history`), once known.
    """

    offset: int
    digest: str
    history: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Bundle that waits. ``refused``: it was itself refused, and has a dead letter; else an earlier one was.

    ``erases``: it is an erasure's. ``owner``: None, or whose resources were refused at a first fill; ``offset`` is then
    the fill's version (fhir-delivery.md §8).
    """

    offset: int
    patients: frozenset[str]
    keys: tuple[str, ...]
    code: str
    refused: bool
    erases: bool = False
    owner: str | None = None

    @property
    def name(self) -> str:
        """Return the record's key without its prefix."""
        return str(self.offset) if self.owner is None else f"{TOPICS}{self.owner}"

    def record(self, partition: int) -> ProducerRecord:
        value = {
            "patients": sorted(self.patients),
            "keys": list(self.keys),
            "code": self.code,
            "refused": self.refused,
            **({"erases": True} if self.erases else {}),
            **({} if self.owner is None else {"offset": self.offset}),
        }
        return ProducerRecord(DELIVERED, f"{WAITING}{self.name}".encode(), orjson.dumps(value), partition)

    def ended(self, partition: int) -> ProducerRecord:
        return ProducerRecord(DELIVERED, f"{WAITING}{self.name}".encode(), None, partition)

    @classmethod
    def decode(cls, name: str, value: bytes) -> "Waiting":
        held = orjson.loads(value)
        owner = name.removeprefix(TOPICS) if name.startswith(TOPICS) else None
        return cls(
            int(name) if owner is None else held["offset"],
            frozenset(held["patients"]),
            tuple(held["keys"]),
            held["code"],
            held["refused"],
            held.get("erases", False),
            owner,
        )


@dataclass(slots=True)
class DeliveredPartition:
    """One partition of the state, merged from the topic. ``position``: the offset up to which it was read.

    ``topic``: the id of the Bundle topic that the offsets are of; None where none is noted.
    """

    partition: int
    sent: dict[str, Sent] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    resuming: set[str] = field(default_factory=set)
    position: int | None = None
    topic: str | None = None

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(DELIVERED, self.partition)

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Merge one record of the topic."""
        name = key.decode()
        if name.startswith(WAITING):
            waiting = name.removeprefix(WAITING)
            if value is None:
                self.waiting.pop(waiting, None)
            else:
                self.waiting[waiting] = Waiting.decode(waiting, value)
        elif name.startswith(RESUME):
            patient = name.removeprefix(RESUME)
            self.resuming.discard(patient) if value is None else self.resuming.add(patient)
        elif name == TOPIC:
            self.topic = None if value is None else decode_sent(value).digest
        elif value is None:
            self.sent.pop(name, None)
        else:
            self.note(name, decode_sent(value))

    def note(self, key: str, sent: Sent) -> None:
        known = self.sent.get(key)
        if known is None or sent.offset >= known.offset:
            self.sent[key] = sent

    def due(self, entries: Iterable[Entry], offset: int) -> list[Entry]:
        """Return the entries of the Bundle at an offset that are to be sent: neither as sent already, nor older."""
        return [
            entry
            for entry in entries
            if (known := self.sent.get(entry.key)) is None or (known.offset <= offset and known.digest != entry.digest)
        ]

    def waits(self, patients: frozenset[str]) -> Waiting | None:
        """Return a Bundle that waits for one of these patients; None where there is none."""
        return next((item for item in self.waiting.values() if not patients.isdisjoint(item.patients)), None)

    def waiting_with(self, patient: str) -> list[Waiting]:
        """Return the waiting Bundles of a patient, and of patients who share one of them, in order."""
        group, found = {patient}, dict[str, Waiting]()
        while more := [item for item in self.waiting.values() if item.name not in found and group & item.patients]:
            for item in more:
                found[item.name] = item
                group |= item.patients
        return sorted(found.values(), key=lambda waiting: waiting.offset)


def sent_record(key: str, sent: Sent, partition: int) -> ProducerRecord:
    return ProducerRecord(DELIVERED, key.encode(), encode_sent(sent), partition)


def topic_record(id: str, partition: int) -> ProducerRecord:
    return sent_record(TOPIC, Sent(0, id), partition)


def shared_record(key: str, digest: str) -> ProducerRecord:
    """Return the record of a shared resource, without an offset: its Bundles come from several partitions."""
    return ProducerRecord(DELIVERED_SHARED, key.encode(), encode_sent(Sent(0, digest)), 0)


def resume_record(patient: str, partition: int, order: Mapping[str, Any] | None) -> ProducerRecord:
    value = None if order is None else orjson.dumps(order)
    return ProducerRecord(DELIVERED, f"{RESUME}{patient}".encode(), value, partition)


def encode_sent(sent: Sent) -> bytes:
    history = {} if sent.history is None else {"history": sent.history}
    return orjson.dumps({"offset": sent.offset, "digest": sent.digest, **history})


def decode_sent(value: bytes) -> Sent:
    held = orjson.loads(value)
    return Sent(held["offset"], held["digest"], held.get("history"))
