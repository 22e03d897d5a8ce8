"""The phases of an encryption of what exists, in their order."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Self

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.kafka.encryption import copied_ranges
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.encryption.secrets import encryption
from fhirline.streams.kafka.headers import FIRST_RAW, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition, TopicPartition
from fhirline.streams.operate.keys.existing import deletion, waiting
from fhirline.streams.operate.keys.existing.copying import Copier
from fhirline.streams.operate.keys.existing.marks import Marks
from fhirline.streams.operate.keys.existing.moved import Moved
from fhirline.streams.operate.keys.existing.state import StateOfPartition
from fhirline.streams.operate.keys.existing.survey import Partitions, named, of_ours, plain_raw, read, survey
from fhirline.streams.operate.keys.existing.verify import BATCH, CopiesDiffer, Verified, batches, verify
from fhirline.topics.declared import ENRICHED, dead_letter_topic, enriched_topic, raw_topic, state_topic

Show = Callable[[str, int, int | None], None]
"""Called with a phase, a count, and the total where it is known."""

ATTEMPTS = 3


class StillPlain(ConfigurationError):
    """A process of this deployment still writes plain records."""


@dataclass(slots=True)
class Done:
    """The result of a run. ``removed``: partition → offset before which everything was, or can be, removed."""

    raw: dict[TopicPartition, Verified] = field(default_factory=dict)
    letters: dict[TopicPartition, Verified] = field(default_factory=dict)
    marks: int = 0
    entries: int = 0
    removed: dict[TopicPartition, int] = field(default_factory=dict)
    unknown: list[RecordPosition] = field(default_factory=list)
    """Records in clear on topics of state that no fhirline wrote. They stay."""


class Migration:
    """Encrypts existing records. Raises KafkaAccessError, ConfigurationError and PublishFailed. Another run goes on."""

    def __init__(self, settings: Settings, vendors: Iterable[str], rate: float | None = None) -> None:
        secrets = encryption(settings)
        if secrets is None:
            raise ConfigurationError(
                "FHIRLINE_ENCRYPTION: not set: give it, or FHIRLINE_ENCRYPTION_FILE, to workers and enrichments, then "
                "to gateways, and then to this command"
            )
        self._settings = settings
        self._rate = rate
        self._show: Show = lambda *_: None
        known = load_vendors(settings.vendors_file).names
        chosen = tuple(vendors) or tuple(known)
        enriched = [vendor for vendor in chosen if vendor in ENRICHED]
        self._raw_topics = [*map(raw_topic, chosen), *map(enriched_topic, enriched)]
        self._letter_topics = [*map(dead_letter_topic, chosen)]
        self._state_topics = [*map(state_topic, chosen), *(state_topic(vendor, enriched=True) for vendor in enriched)]
        self._scanner = LogScanner(settings)
        opener = Opener(settings)
        self._opener = opener
        assert opener.ring is not None
        self._copier = Copier(settings, secrets, opener.ring, opener, Moved())
        self._named: set[RecordPosition] = set()
        self.raw: Partitions = {}
        self.letters: Partitions = {}
        """Partitions as surveyed before anything is copied.

        Letters are surveyed again once the workers have read the copies.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._copier.close()
        self._opener.close()
        self._scanner.close()

    def survey(self) -> None:
        """Find the records to copy. Raises StillPlain."""
        self.raw = survey(self._scanner, self._raw_topics, plain_raw, self._named)
        self.letters = survey(self._scanner, self._letter_topics, self._plain_letter, set())
        self.require_encrypting()

    @property
    def to_copy(self) -> bool:
        """Tell whether any plain record of the survey is left, copied or not."""
        return any(item.due for item in (*self.raw.values(), *self.letters.values()))

    def plain_entries(self) -> tuple[dict[str, int], list[RecordPosition]]:
        """Count the plain state entries of patients, by topic; and the records there that no fhirline wrote."""
        found, unknown = {}, []
        for topic in self._state_topics:
            held = [StateOfPartition(partition, self._copier) for partition in self._scanner.topic_partitions([topic])]
            for state in held:
                state.read_on(self._scanner)
                unknown += _unknown(state)
            found[topic] = sum(len(state.plain) for state in held)
        return found, unknown

    def require_encrypting(self) -> None:
        """Raise StillPlain where a process of ours has written a plain record since the survey."""
        starts: dict[TopicPartition, int | None] = {partition: item.end for partition, item in self.raw.items()}
        for record in read(self._scanner, starts):
            if not is_sealed(record) and of_ours(record):
                process = "enrich" if record.topic in map(enriched_topic, ENRICHED) else "gateway or ingest"
                raise StillPlain(
                    f"{record.position} was written plain since this began: restart {process} with "
                    "FHIRLINE_ENCRYPTION, and run this again; nothing was removed"
                )

    def run(self, keep: bool, patience: float = waiting.PATIENCE, show: Show | None = None) -> Done:
        """Do everything. ``keep``: remove nothing, and only return what can be removed."""
        self._show = show or self._show
        done = Done()
        done.raw = self._copied("events", self.raw, named_first=self._named)
        self.require_encrypting()
        waiting.wait(self._settings, self.raw, patience, lambda left: self._show("waiting for workers", left, None))
        marks = Marks.read(self._scanner)
        self._find_moved(self._raw_topics, {*self._named_by_letters(), *marks.named()})
        self.letters = survey(self._scanner, self._letter_topics, self._due_letter, set())
        done.letters = self._copied("dead letters", self.letters)
        self._find_moved(self._letter_topics, marks.named())
        done.marks = marks.move(self._copier, self._copier.moved)
        for partition in self._scanner.topic_partitions(self._state_topics):
            state = StateOfPartition(partition, self._copier)
            done.entries += state.move(self._scanner)
            done.unknown += _unknown(state)
            self._show("state entries", done.entries, None)
        self.require_encrypting()
        chosen = {partition: item for partition, item in (self.raw | self.letters).items() if item.cut > item.first}
        done.removed = {partition: item.cut for partition, item in chosen.items()}
        ranges = {partition: (item.first, item.cut) for partition, item in chosen.items() if partition in self.raw}
        self._copier.write(copied_ranges.entries(self._scanner, ranges))
        if not keep:
            deletion.delete_before(self._settings, done.removed)
        return done

    def _copied(
        self, phase: str, partitions: Partitions, named_first: Collection[RecordPosition] = ()
    ) -> dict[TopicPartition, Verified]:
        """Copy and verify. ``named_first``: records that others name are copied before those, which name the copies."""
        for attempt in range(ATTEMPTS):
            if named_first:
                self._copy(phase, partitions, lambda record: header(record.headers, FIRST_RAW) is None)
                self._find_moved(self._raw_topics, named_first)
            self._copy(phase, partitions, lambda _: True)
            try:
                return verify(self._scanner, self._copier, partitions)
            except CopiesDiffer:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _copy(self, phase: str, partitions: Partitions, chosen: Callable[[ConsumerRecord], bool]) -> None:
        """Copy the chosen records that have no copy yet."""
        open_ = {partition: item for partition, item in partitions.items() if item.uncopied}
        total, count, began = sum(item.uncopied for item in open_.values()), 0, time.monotonic()
        starts: dict[TopicPartition, int | None] = {partition: item.first for partition, item in open_.items()}
        found = read(self._scanner, starts, {partition: item.cut for partition, item in open_.items()})
        due = (item for item in found if item.offset not in open_[item.topic_partition].copied and chosen(item))
        size = BATCH if self._rate is None else max(1, min(BATCH, int(self._rate)))
        for batch in batches(due, size):
            self._copier.copy(batch)
            for record in batch:
                open_[record.topic_partition].copied.add(record.offset)
            count += len(batch)
            self._show(f"copying {phase}", count, total)
            if self._rate is not None and (ahead := count / self._rate - (time.monotonic() - began)) > 0:
                time.sleep(ahead)

    def _find_moved(self, topics: Iterable[str], wanted: Collection[RecordPosition]) -> None:
        if wanted:
            self._copier.moved.update(Moved.find(self._scanner, self._opener, topics, wanted))

    def _named_by_letters(self) -> set[RecordPosition]:
        partitions = dict.fromkeys(self._scanner.topic_partitions(self._letter_topics))
        return {position for record in read(self._scanner, partitions) for position in named(record)}

    def _plain_letter(self, record: ConsumerRecord) -> bool:
        return not is_sealed(record) and self._copier.sealable(record)

    def _due_letter(self, record: ConsumerRecord) -> bool:
        """Tell whether a letter is plain, or names what was copied, and is not copied yet."""
        return self._plain_letter(record) or any(position in self._copier.moved.copies for position in named(record))


def _unknown(state: StateOfPartition) -> list[RecordPosition]:
    return [RecordPosition(*state.topic_partition, offset) for offset in sorted(state.unknown.values())]
