"""Erasing a patient: the order of it, and why a crash at any point leaves nothing that another run does not finish.

The invariant: **a block is durable before anything is taken away, and nothing is called done before a look that began
after every worker heeds the block has found nothing left.**

1. The block (acknowledged). From now on nothing new of the patient is mapped by a process that has read it
   (`ErasureListFeed`).
2. The DELETE Bundles, with the Provenance, before the tombstones: they are made of the keys that are still there, so a
   crash between the two finds the same keys again, and the Bundles again, in the same bytes.
3. Tombstones of resources and of what the folds remember.
4. Wait until what workers had in hand when the block came must have arrived; look again, from the beginning; take away
   what came; until a whole look finds nothing.

A crash before 1 has done nothing; after it, the patient is blocked, and another run takes up at 2. Another run of a
finished erasure finds nothing and writes nothing but the block, as it was.
"""

import time
from collections.abc import Callable

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.reader import Progress, Scanner
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.find import Finder, Found
from fhirline.streams.operate.erasure.records import Departure
from fhirline.streams.operate.erasure.report import Report, remaining, retention_of
from fhirline.streams.step1_receive.raw_record import now
from fhirline.streams.step3_restore.block import HOW, Block, Compartment, Hashing, hashing
from fhirline.streams.step3_restore.erased import ErasureListFeed, settled_after
from fhirline.streams.step5_publish.publish import Delivered, RecordPublisher
from fhirline.topics.cluster import Cluster
from fhirline.topics.declared import ERASED, declared

LOOKS = 6
"""Looks at most: more would mean that something writes the patient's records without heeding the block."""

Say = Callable[[str], None]


def required(settings: Settings) -> Hashing:
    """The secret, without which nobody can be blocked."""
    if (found := hashing(settings)) is None:
        raise ConfigurationError(
            f"FHIRLINE_ERASURE_KEY: not set; erased patients are remembered by keyed hashes, and this is the key: {HOW}"
        )
    return found


class Erasure:
    """Of one patient. `look`, then `erase` what was found, or `lift` the block. Raises ConfigurationError, OtherKey
    and PublishFailed; running again after any of them takes up where it stopped."""

    def __init__(self, settings: Settings, patient: Compartment, progress: Progress | None = None) -> None:
        self.patient = patient
        self._settings = settings
        self._hashing = required(settings)
        self._erasures = ErasureListFeed(settings)
        self._scanner = Scanner(settings, progress)
        self._normalize: Normalizer = build_normalizer(settings)
        self._publisher = RecordPublisher(settings)

    @property
    def digest(self) -> str:
        """What the patient is called where the key must not be: the keyed hash that is the key of the block."""
        return self._hashing.digest(self.patient.partition_key)

    def close(self) -> None:
        self._erasures.close()
        self._scanner.close()

    def blocked(self) -> Block | None:
        """The patient's block as it is now."""
        self._erasures.refresh()
        return self._erasures.erasure_list.block(self.patient)

    def look(self) -> Found:
        """Everything there is of the patient."""
        return Finder(self._settings, self._scanner, self._normalize, self.patient).look()

    def erase(self, found: Found, settle: float | None = None, say: Say = lambda _: None) -> Report:
        """Block, tell, take away, look again. ``settle``: seconds that workers are given (None: what they may take)."""
        report = Report(self.patient.vendor, self.patient.tenant, self.digest)
        departure = self._block(found, report)
        settled = time.monotonic() + (settled_after(self._settings) if settle is None else settle)
        say("blocked; taking away what there is")
        while True:
            self._take_away(found, departure, report)
            if (wait := settled - time.monotonic()) > 0:
                say(f"waiting {wait:.0f} s for what workers had in hand, then looking again")
                time.sleep(wait)  # what is waited for is time itself: until then a worker may write
            found = self.look()
            report.looks += 1
            report.left = len(found.live) + len(found.state)
            if not report.left or report.looks >= LOOKS:
                break
            departure = self._block(found, report)
        report.remaining = remaining(found, self._retention())
        return report

    def lift(self, found: Found) -> int:
        """Take the blocks away again; how many there were. Events that come after are mapped again."""
        self._erasures.refresh()
        blocked = [each for each in found.compartments.values() if self._erasures.erasure_list.block(each)]
        self._deliver([self._block_record(each, None) for each in blocked])
        return len(blocked)

    def _block(self, found: Found, report: Report) -> Departure:
        """Block every key under which the patient's events come, and wait until that is durable.

        The time of a block is the first one's, so that whoever runs this again writes the same.
        """
        known = self.blocked()
        block = known or Block(self._hashing.check, now().text)
        offsets: dict[bytes, int] = {}
        records = [self._block_record(each, block) for each in found.compartments.values()]
        self._deliver(records, lambda record: offsets.__setitem__(bytes(record.key() or b""), record.offset() or 0))
        report.blocked_at, report.blocks = block.at, len(records)
        at = Instant.parse(block.at)
        assert at is not None
        return Departure(
            self._normalize,
            self.patient,
            report.digest,
            offsets[report.digest.encode()],
            at,
            self._settings.partitions,
        )

    def _take_away(self, found: Found, departure: Departure, report: Report) -> None:
        if found.live:
            told = departure.messages(found.keys)
            report.bundles += len(told) - 1
            self._deliver(told)
        tombstones = departure.tombstones(found.live)
        self._deliver([*tombstones, *(ProducerRecord(place[0], key, None, place[1]) for place, key in found.state)])
        report.tombstones += found.by_type()
        report.found_by += found.by_way()
        report.state += len(found.state)
        report.keys = sorted({*report.keys, *(key for _, key in found.live)})

    def _block_record(self, of: Compartment, block: Block | None) -> ProducerRecord:
        digest = self._hashing.digest(of.partition_key)
        return ProducerRecord(ERASED, digest.encode(), block.encode() if block else None, 0)

    def _deliver(self, records: list[ProducerRecord], delivered: Delivered | None = None) -> None:
        if too_large := self._publisher.publish(records, delivered):
            raise ConfigurationError(
                f"FHIRLINE_MESSAGE_MAX_BYTES: {too_large[0].topic} takes no record as large as a DELETE Bundle"
            )

    def _retention(self) -> dict[str, int | None]:
        topics = [each for each in declared(self._settings) if each.cleanup == "delete"]
        with Cluster(kafka_python(self._settings)) as cluster:
            existing = cluster.read(topics)
        configs = {name: each.config for name, each in existing.items()}
        return retention_of(configs, {each.name: each.retention for each in topics})
