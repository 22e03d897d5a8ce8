"""One reading of the cluster: offsets, committed offsets, groups and open dead letters.

It joins no group and reads no payload. For a compacted topic, the difference of end and first offset is an upper bound
of its records. On the embedded broker ends are too low (faust.md §6), so its figures are approximate.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fhirline.config.errors import KafkaRequestFailed
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.clients import kafka_python
from fhirline.streams.kafka.connect import connect
from fhirline.streams.kafka.embedded_quirks import is_embedded, latest_timestamp_missing
from fhirline.streams.kafka.records import TopicPartition
from fhirline.streams.operate.deliveries.parked import Parked, ParkedCounter
from fhirline.streams.operate.status.groups import AGAIN, Group, Groups
from fhirline.topics.declared import BUNDLE, CONTRIBUTIONS, Topic, dead_letter_topic, declared

if TYPE_CHECKING:
    from fhirline.streams.operate.dead_letters.board import Board

T = TypeVar("T")

LETTERS_READ = 20_000
"""Letters that are read to count the open ones. If there are more, only the number of all is reported."""


@dataclass(frozen=True, slots=True)
class Ends:
    """A partition's first and end offsets, and its latest timestamp in UNIX milliseconds."""

    first: int
    end: int
    last_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading. ``at``: this machine's clock in UNIX seconds. ``seconds``: its monotonic clock, for rates.

    ``committed``: group → partition → next offset to read. ``open_letters``: vendor → number of open dead letters, None
    where there are too many to read. ``exact``: whether end offsets are exact (not on the embedded broker).
    ``parked``: what waits for the FHIR server, None where none is set.
    """

    at: float
    seconds: float
    ends: Mapping[TopicPartition, Ends]
    committed: Mapping[str, Mapping[TopicPartition, int]]
    groups: Mapping[str, Group]
    open_letters: Mapping[str, int | None] = field(default_factory=dict)
    exact: bool = True
    parked: Parked | None = None


class Reader:
    """Takes readings over the same connections. Raises KafkaAccessError where Kafka does not answer::

    with Reader(settings, vendors, groups) as reader:
        reading = reader.read()
    """

    def __init__(self, settings: Settings, vendors: tuple[str, ...], groups: tuple[str, ...], timeout: float) -> None:
        self._settings = settings
        self._vendors = vendors
        self._names = groups
        self._timeout = timeout
        self._topics: tuple[Topic, ...] = declared(settings)
        self._exact = True
        self._admin: Any = None
        self._groups: Groups | None = None
        self._board: Board | None = None
        self._parked: ParkedCounter | None = None

    def __enter__(self) -> Self:
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        self._exact = not is_embedded(connect(self._settings, self._timeout).cluster_id)
        milliseconds = int(self._timeout * 1000)
        try:
            self._admin = KafkaAdminClient(
                **kafka_python(self._settings),
                client_id="fhirline-status",
                bootstrap_timeout_ms=milliseconds,
                request_timeout_ms=milliseconds,
            )
        except KafkaError as error:
            raise self._unanswered(error) from None
        self._groups = Groups(self._settings)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._admin.close()
        if self._board is not None:
            self._board.__exit__(kind, error, at)
        if self._parked is not None:
            self._parked.close()

    def read(self) -> Reading:
        """Take a reading. Committed offsets are read before ends, so that no lag is too small."""
        assert self._groups is not None
        committed = self._answer(self._committed)
        at, seconds = time.time(), time.monotonic()
        ends = self._answer(self._ends)
        groups = self._groups.read(self._names)
        return Reading(at, seconds, ends, committed, groups, self._open_letters(ends), self._exact, self._waiting())

    def _waiting(self) -> Parked | None:
        if self._settings.fhir_server is None:
            return None
        if self._parked is None:
            self._parked = ParkedCounter(self._settings)
        return self._parked.read()

    def _answer(self, ask: Callable[[], T]) -> T:
        """Return the cluster's answer. Asks again while a coordinator or a leader moves to another broker."""
        from kafka.errors import KafkaError

        until = time.monotonic() + self._timeout
        while True:
            try:
                return ask()
            except KafkaError as error:
                if not error.retriable or time.monotonic() > until:
                    raise self._unanswered(error) from None
            time.sleep(AGAIN)

    def _committed(self) -> dict[str, dict[TopicPartition, int]]:
        answered = {name: self._admin.list_group_offsets({name: None})[name] for name in self._names}
        return {
            name: {
                TopicPartition(*partition): answer.offset for partition, answer in found.items() if answer.offset >= 0
            }
            for name, found in answered.items()
        }

    def _ends(self) -> dict[TopicPartition, Ends]:
        from kafka.admin import OffsetSpec

        wanted = {topic.name for topic in self._topics}
        partitions = [
            TopicPartition(topic["name"], partition["partition_index"])
            for topic in self._admin.describe_topics()
            if topic["name"] in wanted
            for partition in topic["partitions"]
        ]
        first = self._offsets(partitions, OffsetSpec.EARLIEST)
        end = self._offsets(partitions, OffsetSpec.LATEST)
        read = [
            partition
            for partition in partitions
            if partition.topic.startswith("raw.") or partition.topic in (CONTRIBUTIONS, BUNDLE)
        ]
        raw = [item for item in read if end[item].offset > first[item].offset]
        missing = [item for item in raw if latest_timestamp_missing(end[item])]
        last = {**end, **self._offsets(missing, OffsetSpec.MAX_TIMESTAMP)}
        latest = {item: last[item].timestamp for item in raw if last[item].timestamp >= 0}
        return {
            partition: Ends(first[partition].offset, end[partition].offset, latest.get(partition))
            for partition in partitions
        }

    def _offsets(self, partitions: Iterable[TopicPartition], spec: Any) -> dict[TopicPartition, Any]:
        import kafka

        asked = {kafka.TopicPartition(*partition): spec for partition in partitions}
        answered = self._admin.list_partition_offsets(asked) if asked else {}
        return {TopicPartition(*partition): found for partition, found in answered.items()}

    def _open_letters(self, ends: Mapping[TopicPartition, Ends]) -> dict[str, int | None]:
        letters = {
            vendor: sum(
                bounds.end - bounds.first
                for partition, bounds in ends.items()
                if partition.topic == dead_letter_topic(vendor)
            )
            for vendor in self._vendors
        }
        if not any(letters.values()):
            return dict.fromkeys(self._vendors, 0)
        if sum(letters.values()) > LETTERS_READ:
            return dict.fromkeys(self._vendors)
        from fhirline.streams.operate.dead_letters.board import Board
        from fhirline.streams.operate.dead_letters.cases import Status

        if self._board is None:
            self._board = Board(self._settings, self._vendors).__enter__()
        found = [case.last.vendor for case in self._board.read() if case.status is not Status.DONE]
        return {vendor: found.count(vendor) for vendor in self._vendors}

    def _unanswered(self, error: Exception) -> KafkaRequestFailed:
        return KafkaRequestFailed(
            f"{PREFIX}BOOTSTRAP: {self._settings.bootstrap} does not answer: {type(error).__name__}: {error}".rstrip(
                ": "
            )
        )
