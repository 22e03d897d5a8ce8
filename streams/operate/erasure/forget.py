"""Erasing a patient: the order of the steps, and why a crash at any point can be finished by another run.

The invariant: **a block is durable before anything is deleted, and an erasure is complete only after a search that
began when every worker had read the block, and that found nothing.**

1. Write the block. Every process that has read it maps nothing more of the patient (`ErasureListFeed`).
2. Write the DELETE Bundles and the Provenance, before the tombstones. They are made of the keys that still have a
   value, so after a crash between the two another run finds the same keys and writes the same bytes.
3. Write tombstones for resources and state entries, and null values for the events' OperationOutcomes. The topic of
   these keeps what it has until its retention ends, but whoever keeps rows of them loses them, as of resources.
4. Wait until everything that workers had read before the block must have been written. Search again from the beginning,
   delete what was found, and repeat until a search finds nothing.

A crash before 1 has changed nothing. After it, the patient is blocked, and another run continues at 2. Another run of a
finished erasure finds nothing, and writes nothing but the unchanged block.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.encryption.key_ring import KeyRing
from fhirline.streams.kafka.encryption.secrets import encryption
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.find import Finder
from fhirline.streams.operate.erasure.found import Found
from fhirline.streams.operate.erasure.keys import ErasedKeys, KeyLocation
from fhirline.streams.operate.erasure.records import ErasureRecords
from fhirline.streams.operate.erasure.report import Report, remaining, retention_of
from fhirline.streams.operate.erasure.server import at_server
from fhirline.streams.operate.replay.patient import HeldByRun, PatientRecords, held_by_runs
from fhirline.streams.step1_receive.raw_record import now
from fhirline.streams.step3_restore.erasure_list import HOW, Block, Compartment, Hashing, hashing
from fhirline.streams.step3_restore.erasure_list_feed import LOOK_SECONDS, ErasureListFeed, settled_after
from fhirline.streams.step5_publish.publish import Delivered, RecordPublisher
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import ERASED, declared
from fhirline.topics.partition import partition_for

SEARCHES = 6
"""Searches at most. More would mean that something ignores the block and writes the patient's records."""


def required(settings: Settings) -> Hashing:
    """Return the hashing with the deployment's key. Raises ConfigurationError where the key is not set."""
    if (found := hashing(settings)) is None:
        raise ConfigurationError(
            f"FHIRLINE_ERASURE_KEY: not set; it is the key of the hashes by which erased patients are known: {HOW}"
        )
    return found


class Erasure:
    """The erasure of one patient: `find`, then `erase` what was found, or `lift` the block.

    Raises ConfigurationError, OtherKey and PublishFailed. After any of them, another run continues where this one
    stopped.
    """

    def __init__(self, settings: Settings, patient: Compartment, progress: Progress | None = None) -> None:
        self.patient = patient
        self._settings = settings
        self._progress = progress
        self._hashing = required(settings)
        self._erasures = ErasureListFeed(settings)
        self._scanner = Scanner(settings, progress)
        self._normalize: Normalizer = build_normalizer(settings)
        self._publisher = RecordPublisher(settings)
        self._secrets = encryption(settings)
        self._ring = KeyRing(settings, self._secrets) if self._secrets else None
        self._keys = ErasedKeys(settings, self._ring, self._publish) if self._ring else None

    @property
    def digest(self) -> str:
        """Return the patient's keyed hash: the key of the block, and the patient's name in logs and reports."""
        return self._hashing.digest(self.patient.partition_key)

    def close(self) -> None:
        self._erasures.close()
        self._scanner.close()
        if self._ring:
            self._ring.close()

    def blocked(self) -> Block | None:
        """Read the patient's block."""
        self._erasures.refresh()
        return self._erasures.erasure_list.block(self.patient)

    def find(self, earlier: Found | None = None) -> Found:
        """Find everything of the patient. ``earlier``: what was found while the events could be read."""
        location = self._own_location() if self._keys else None
        marked = {*self._keys.locations(location)} - {location} if self._keys and location else ()
        return Finder(self._settings, self._scanner, self._normalize, self.patient, earlier, marked).find()

    def erase(self, found: Found, settle: float | None = None, show: Callable[[str], None] = lambda _: None) -> Report:
        """Block the patient, delete what was found, and search again until nothing is found.

        ``settle``: seconds that workers get to finish what they have read; None for the longest that they may take.
        ``show``: called with a line per step.
        """
        report = Report(self.patient.vendor, self.patient.tenant, self.digest)
        patience = settled_after(self._settings) if settle is None else settle
        blocked, settled = set[str](), 0.0
        while True:
            records = self._block(found, report)
            if found.compartments.keys() - blocked:
                blocked.update(found.compartments)
                # By then workers have read this block, and have written what they had mapped before.
                settled = time.monotonic() + patience
            show("blocked; deleting what was found" if not report.looks else "deleting what was found")
            self._delete(found, records, report)
            if (wait := settled - time.monotonic()) > 0:
                show(f"waiting {wait:.0f} s for what workers have read already, then searching again")
                time.sleep(wait)  # until then a worker may write; nothing reports that it has not
            found = self.find()
            report.looks += 1
            late = found.compartments.keys() - blocked
            report.left = len(found.live) + len(found.state) + len(found.outcomes) + len(late)
            if not report.left or report.looks >= SEARCHES:
                break
        keys = {*found.keys, *report.keys}
        report.replays = self.held_by_replays(found, keys)
        if self._keys and not report.left:
            show("destroying the data keys")
            self._destroy_keys(self._keys, found, report)
            found = self.find(found)  # what can still be read
        retention = self._retention()
        report.remaining = remaining(found.remains, retention)
        report.unreadable = remaining(found.unreadable, retention)
        report.server, report.server_asked = at_server(self._settings, keys), bool(keys)
        return report

    def held_by_replays(self, found: Found, keys: Collection[str]) -> list[HeldByRun]:
        """Return what unfinished replays hold of the patient on this machine. ``keys``: of the patient's resources."""
        known = PatientRecords({*found.keys, *keys}, found.compartments.keys(), found.origins)
        return [*held_by_runs(self._settings.replay_dir, known)]

    def _destroy_keys(self, keys: ErasedKeys, found: Found, report: Report) -> None:
        """Destroy the data keys of every key that the patient's events have. Only after everything else is done.

        Everything else of a patient is found by reading the events, and nobody can read them afterwards.
        """
        at = now().text
        locations = self._key_locations(found)
        keys.mark(locations, self._own_location(), at)
        _, report.data_keys = keys.destroy(at, locations)
        wrapped_by, held = keys.wrapped_by(locations), self._secrets.keks.keys() if self._secrets else set()
        report.data_keys_wrapped_by = sorted(wrapped_by & held)
        report.key_encryption_keys_gone = sorted(wrapped_by - held)
        self._scanner.close()
        self._scanner = Scanner(self._settings, self._progress)  # the other one still has the keys

    def _key_locations(self, found: Found) -> list[KeyLocation]:
        """Return where the data keys of the patient's events are."""
        assert self._secrets is not None
        count = self._settings.partitions
        raw_keys = {(key, partition_for(key, count)) for key in found.compartments} | found.raw_keys
        named = {(number, self._secrets.index(f"{self.patient.vendor}|{key}")) for key, number in raw_keys}
        return sorted(named | found.sealed)

    def _own_location(self) -> KeyLocation:
        return self._key_locations(Found({self.patient.raw_key: self.patient}))[0]

    def count_keys(self, found: Found) -> int | None:
        """Count the patient's data keys that are not destroyed yet; None without encryption."""
        if self._keys is None:
            return None
        return self._keys.count(self._key_locations(found))

    def in_use_until(self) -> datetime | None:
        """Return when no gateway may use a destroyed data key of the patient any more; None where none does."""
        if self._keys is None:
            return None
        return self._keys.in_use_until(self._keys.locations(self._own_location()))

    def lift(self, found: Found) -> int:
        """Delete the blocks, so that later events are mapped again. Return how many blocks there were.

        The markers of the data keys are removed before the blocks: an event that arrives in between would be passed
        over otherwise. The block of the patient's own key is removed last, because the run after a killed one needs it.

        Blocks and markers of other keys name the patient's own, so they are found without the events, which cannot be
        read any more. Raises DestroyedMeanwhile.
        """
        if self._keys:
            location = self._own_location()
            self._keys.let_in({*self._keys.locations(location), *self._key_locations(found)}, location)
        self._erasures.refresh()
        known = self._erasures.erasure_list
        of_found = (
            self._hashing.digest(item.partition_key) for item in found.compartments.values() if known.block(item)
        )
        others = {*known.others(self.digest), *of_found} - {self.digest}
        own = [self.digest] if known.block(self.patient) else []
        for step in (others, own):
            self._publish([ProducerRecord(ERASED, digest.encode(), None, 0) for digest in step])
        time.sleep(LOOK_SECONDS)  # until then a worker may pass an event over, by what it has read before
        return len(others) + len(own)

    def _block(self, found: Found, report: Report) -> ErasureRecords:
        """Write a block for every key of the patient's events, and wait until they are durable.

        A block keeps the time of the first one, so that another run writes the same bytes.
        """
        known = self.blocked()
        block = known or Block(self._hashing.check, now().text)
        offsets: dict[bytes, int] = {}
        records = [self._block_record(compartment, block) for compartment in found.compartments.values()]
        self._publish(records, lambda record: offsets.__setitem__(bytes(record.key() or b""), record.offset() or 0))
        report.blocked_at, report.blocks = block.at, len(records)
        at = Instant.parse(block.at)
        assert at is not None
        return ErasureRecords(
            self._normalize,
            self.patient,
            report.digest,
            offsets[report.digest.encode()],
            at,
            self._settings.partitions,
        )

    def _delete(self, found: Found, records: ErasureRecords, report: Report) -> None:
        """Write DELETE Bundles, the Provenance and the tombstones, and count them."""
        if found.live:
            messages = records.messages(found.keys)
            report.bundles += len(messages) - 1
            self._publish(messages)
        resources = records.tombstones(found.live)
        state = (ProducerRecord(partition.topic, key, None, partition.partition) for partition, key in found.state)
        outcomes = records.tombstones(found.outcomes)
        self._publish([*resources, *state, *outcomes])
        report.tombstones += found.by_type()
        report.found_by += found.by_way()
        report.state += len(found.state)
        report.outcomes += len(outcomes)
        report.keys = sorted({*report.keys, *(key for _, key in found.live)})

    def _block_record(self, patient: Compartment, block: Block) -> ProducerRecord:
        digest = self._hashing.digest(patient.partition_key)
        held = replace(block, of=None if digest == self.digest else self.digest)
        return ProducerRecord(ERASED, digest.encode(), held.encode(), 0)

    def _publish(self, records: list[ProducerRecord], delivered: Delivered | None = None) -> None:
        if too_large := self._publisher.publish(records, delivered):
            raise ConfigurationError(
                f"FHIRLINE_MESSAGE_MAX_BYTES: {too_large[0].topic} takes no record as large as a DELETE Bundle"
            )

    def _retention(self) -> dict[str, int | None]:
        topics = [topic for topic in declared(self._settings) if topic.cleanup == "delete"]
        with Cluster(kafka_python(self._settings)) as cluster:
            existing = cluster.read(topics)
        configs = {name: topic.config for name, topic in existing.items()}
        return retention_of(configs, {topic.name: topic.retention for topic in topics})
