"""Practitioners in a replay: folded over the range's contributions and those that the topic has of all other events.

A raw partition's contribution is a whole, so that of each key one record counts (mapping.md §3.2): the journal's, or
the topic's where a live event after the journal's position wrote it, or where the range has no such contribution. Where
a partition is rebuilt from nothing, a contribution that none of its events makes now is dropped, and what failing
events contributed stays.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import Normalizer
from fhirline.mappers.pipeline.practitioner_fold import ContributionKey, decoded, encoded
from fhirline.streams.kafka.headers import EVENT_KEY, OCCURRED_AT, RAW, header
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import ProducerRecord, headers_of, partition_of
from fhirline.streams.operate.replay.journal import Journal, RemappedRecord, packed
from fhirline.streams.operate.replay.remap import Job
from fhirline.streams.operate.replay.topic_index import TopicIndex, digest, version_of_headers
from fhirline.streams.step2_consume.practitioners import practitioner_record
from fhirline.streams.step3_restore.contribution_cache import PartitionContributions, subject_of
from fhirline.topics.declared import CONTRIBUTIONS

FILE = "practitioners.sqlite"


class Practitioners:
    """The Practitioners of a run. ``journal`` has their records after `fold`.

    ``changed``: contributions to write, tombstones included. Memory grows with the contributions of all Practitioners.
    """

    def __init__(
        self,
        settings: Settings,
        normalize: Normalizer,
        index: TopicIndex,
        jobs: Mapping[str, Job],
        journals: Mapping[str, Journal],
        folder: Path,
        *,
        everything: bool = False,
    ) -> None:
        self._settings = settings
        self._normalize = normalize
        self._index = index
        self._jobs = jobs
        self._journals = journals
        self._everything = everything
        self.journal = Journal(folder / FILE)
        self.changed: list[ProducerRecord] = []
        self._held = PartitionContributions()

    def close(self) -> None:
        self.journal.close()

    def contributed(self, key: str) -> bool:
        """Tell whether any event contributes to the Practitioner ``key``."""
        return bool(self._held(key))

    def fold(self) -> None:
        """Read the topic, replace what the range contributes, and fold the Practitioners that the range names.

        A run as of a time does not read the topic, which has what later events contribute.
        """
        as_of = any(job.selection.as_of for job in self._jobs.values())
        present = {} if as_of else self._on_topic()
        wanted = {record.key: record for journal in self._journals.values() for record in journal.contributions()}
        named = {subject for key in wanted if (subject := subject_of(key))}
        self.changed = []
        for key, known in present.items():
            source = ContributionKey.parse(key).source
            journal, job = self._journals.get(source), self._jobs.get(source)
            if journal is None or job is None:
                continue
            if _is_live(known, journal):
                wanted.pop(key, None)
            elif job.rebuilds and (kept := _of_failed(known, wanted.get(key), journal)) is not None:
                wanted[key] = kept
            elif job.rebuilds and key not in wanted:
                self.changed.append(ProducerRecord(CONTRIBUTIONS, key, None, known.partition))
        for key, record in wanted.items():
            topics = present.get(key)
            if topics is None or topics.value != record.value:
                self.changed.append(record)
        self._held = PartitionContributions()
        for record in (*present.values(), *self.changed):
            self._held.read(record.key, record.value, record.headers)
        self.journal.replace_records(self._records(named))

    def _on_topic(self) -> dict[bytes, ProducerRecord]:
        """Return the contributions on the topic, by key. Records of another form are passed over."""
        found: dict[bytes, ProducerRecord] = {}
        with Scanner(self._settings) as scanner:
            for message in scanner.read(dict.fromkeys(scanner.topic_partitions([CONTRIBUTIONS]))):
                key, value = bytes(message.key() or b""), message.value()
                if subject_of(key) is None:
                    continue
                found.pop(key, None)
                if value is not None:
                    partition = partition_of(message).partition
                    found[key] = ProducerRecord(CONTRIBUTIONS, key, bytes(value), partition, headers_of(message))
        return found

    def _records(self, named: set[str]) -> Iterator[RemappedRecord]:
        for subject in sorted(named):
            if not (contributions := self._held(subject)):
                continue
            record = practitioner_record(self._normalize, contributions, self._settings.partitions)
            if record is None:
                continue
            assert record.value is not None
            assert record.partition is not None
            sent = record.headers
            present = self._index.get(subject, record.partition)
            same = present is not None and present.digest == digest(record.value) and not self._everything
            yield RemappedRecord(
                subject,
                record.partition,
                version_of_headers(header(sent, OCCURRED_AT), header(sent, EVENT_KEY)),
                _offset(sent),
                own=False,
                constant=False,
                digest=digest(record.value),
                value=None if same else record.value,
                headers=packed(sent),
            )


def _offset(headers: list[tuple[str, bytes]]) -> int:
    offset = (header(headers, RAW) or "").rpartition("/")[2]
    return int(offset) if offset.isdigit() else -1


def _is_live(known: ProducerRecord, journal: Journal) -> bool:
    """Tell whether a contribution was written by an event after the journal's position."""
    return _offset(known.headers) >= (journal.next or 0)


def _of_failed(known: ProducerRecord, new: ProducerRecord | None, journal: Journal) -> ProducerRecord | None:
    """Add the entries of events that fail now to the new contribution; None where there are none."""
    failed = journal.failed_events()
    if not failed:
        return None
    entries = decoded(known.value or b"{}")
    kept = {name: entry for name, entry in entries.items() if entry.version.event_key in failed}
    mine = decoded(new.value or b"{}") if new is not None else {}
    added = {name: entry for name, entry in kept.items() if name not in mine}
    if not added:
        return None
    base = new if new is not None else known
    return ProducerRecord(CONTRIBUTIONS, base.key, encoded({**mine, **added}), base.partition, base.headers)
