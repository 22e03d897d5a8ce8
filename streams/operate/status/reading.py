"""One look at the cluster: offsets, committed offsets, groups and open letters. No group is joined, no payload shown.

Ends are end offsets, so what lies between first and end is an upper bound of the records of a compacted topic. On the
embedded broker ends are too low (faust.md §6): what it says is for trying.
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
from fhirline.streams.operate.status.groups import AGAIN, Group, Groups
from fhirline.topics.declared import Topic, dead_letter_topic, declared

if TYPE_CHECKING:
    from fhirline.streams.operate.dead_letters.board import Board

T = TypeVar("T")

LETTERS_READ = 20_000
"""As many letters are looked through for those still open; beyond that, only the number of all is told."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Of one partition: its first and end offsets, and the latest timestamp in it, UNIX milliseconds."""

    first: int
    end: int
    last_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """``at``: UNIX seconds of this machine; ``seconds``: a clock that only goes forward, for rates.

    ``committed``: group → place → next offset to read. ``open_letters``: vendor → letters that wait for a mender, None
    where there are too many to look through. ``exact``: whether end offsets are (not on the embedded broker).
    """

    at: float
    seconds: float
    ends: Mapping[TopicPartition, Ends]
    committed: Mapping[str, Mapping[TopicPartition, int]]
    groups: Mapping[str, Group]
    open_letters: Mapping[str, int | None] = field(default_factory=dict)
    exact: bool = True


class Reader:
    """Keeps its connections between looks. Raises KafkaAccessError where Kafka does not answer::

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

    def read(self) -> Reading:
        """What there is now. Committed offsets come first: so no lag is too small by what came in between."""
        assert self._groups is not None
        committed = self._answer(self._committed)
        at, seconds = time.time(), time.monotonic()
        ends = self._answer(self._ends)
        groups = self._groups.read(self._names)
        return Reading(at, seconds, ends, committed, groups, self._open_letters(ends), self._exact)

    def _answer(self, ask: Callable[[], T]) -> T:
        """The cluster's answer; it is asked again where a coordinator or a leader is on its way to another broker."""
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
                TopicPartition(place.topic, place.partition): held.offset
                for place, held in found.items()
                if held.offset >= 0
            }
            for name, found in answered.items()
        }

    def _ends(self) -> dict[TopicPartition, Ends]:
        from kafka.admin import OffsetSpec

        wanted = {topic.name for topic in self._topics}
        places = [
            TopicPartition(topic["name"], each["partition_index"])
            for topic in self._admin.describe_topics()
            if topic["name"] in wanted
            for each in topic["partitions"]
        ]
        first = self._offsets(places, OffsetSpec.EARLIEST)
        end = self._offsets(places, OffsetSpec.LATEST)
        raw = [each for each in places if each[0].startswith("raw.") and end[each].offset > first[each].offset]
        untold = [each for each in raw if latest_timestamp_missing(end[each])]
        last = {**end, **self._offsets(untold, OffsetSpec.MAX_TIMESTAMP)}
        told = {each: last[each].timestamp for each in raw if last[each].timestamp >= 0}
        return {each: Ends(first[each].offset, end[each].offset, told.get(each)) for each in places}

    def _offsets(self, places: Iterable[TopicPartition], spec: Any) -> dict[TopicPartition, Any]:
        import kafka

        asked = {kafka.TopicPartition(*each): spec for each in places}
        answered = self._admin.list_partition_offsets(asked) if asked else {}
        return {TopicPartition(*partition): found for partition, found in answered.items()}

    def _open_letters(self, ends: Mapping[TopicPartition, Ends]) -> dict[str, int | None]:
        letters = {
            vendor: sum(each.end - each.first for place, each in ends.items() if place[0] == dead_letter_topic(vendor))
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
        found = [each.last.vendor for each in self._board.read() if each.status is not Status.DONE]
        return {vendor: found.count(vendor) for vendor in self._vendors}

    def _unanswered(self, error: Exception) -> KafkaRequestFailed:
        return KafkaRequestFailed(
            f"{PREFIX}BOOTSTRAP: {self._settings.bootstrap} does not answer: {type(error).__name__}: {error}".rstrip(
                ": "
            )
        )
