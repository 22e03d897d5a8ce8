"""Read a topic in a consumer group, and commit per partition the contiguous prefix of finished offsets.

For stages whose records finish out of order, by minutes: surveys that are fetched, Bundles that are sent. Faust does
not fit there. It accepts acknowledgements out of order, but what it then commits with gaps at the head of a partition
has lost events (faust.md §2.3). Its agent takes the next batch when the last is done, so that one record that waits
would hold up all. So this is a plain consumer of librdkafka with manual commits. One thread reads, and calls back about
partitions.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka, log_error, new_client
from fhirline.streams.kafka.records import Lag

POLL_SECONDS = 0.2
BATCH = 200
QUEUE_KBYTES = 16_384
CLOSE_SECONDS = 5.0
COMMIT_LOST = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS})


class Assignment:
    """The finished offsets of a partition, while this process has it.

    The invariant: ``committable`` is never beyond an offset that its stage has not called finished. A new assignment of
    the same partition is another object. Work begun under the earlier assignment cannot finish an offset of the new
    one.
    """

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.revoked = False
        self.committed: int | None = None
        self.committable: int | None = None
        self.end: int | None = None
        """The partition's end offset, as of the last fetch; None while nothing of it has been fetched."""
        self._begun: deque[int] = deque()
        self._finished: set[int] = set()

    def begin(self, offset: int) -> None:
        """Add an offset in progress. Offsets come in order, with gaps (markers of transactions)."""
        self._begun.append(offset)

    def finish(self, offset: int) -> None:
        self._finished.add(offset)
        while self._begun and self._begun[0] in self._finished:
            done = self._begun.popleft()
            self._finished.discard(done)
            self.committable = done + 1

    def finish_before(self, offset: int) -> None:
        """Mark all records before an offset as finished. None of them was begun: they were handled in another way."""
        self.committable = max(offset, self.committable or 0)

    @property
    def position(self) -> int | None:
        """Return the first unfinished offset; None before the first `begin`."""
        return self._begun[0] if self._begun else self.committable

    def to_commit(self) -> TopicPartition | None:
        if self.committable is None or self.committable == self.committed:
            return None
        return TopicPartition(self.topic, self.partition, self.committable)


class Reader:
    """The consumer of a stage, whose name (``enrich``) is that of its log.

    ``on_revoked`` is called on the event loop with the assignments that have ended. ``drain`` is called before, in the
    consumer's thread, when partitions are handed over in order: what it finishes is still committed.
    """

    def __init__(
        self,
        settings: Settings,
        stage: str,
        topic: str,
        group: str,
        client_id: str,
        on_revoked: Callable[[Iterable[Assignment]], None],
        drain: Callable[[Iterable[Assignment]], None] = lambda _: None,
    ) -> None:
        self._stage = stage
        self._log = structlog.get_logger(stage)
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, f"{stage}-consumer")
        self._on_revoked = on_revoked
        self._drain = drain
        self._assignments: dict[int, Assignment] = {}
        self.joined = False
        self._topic = topic
        self._paused = False
        self._committing = False
        self._commit_error: str | None = None
        """The error of the last commit. An outage in which every commit fails is one line in the log."""
        self._consumer = new_client(
            Consumer,
            librdkafka(
                settings,
                **{
                    "group.id": group,
                    "client.id": client_id,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "earliest",
                    "session.timeout.ms": int(settings.session_timeout * 1000),
                    "heartbeat.interval.ms": int(settings.session_timeout * 100),
                    "max.poll.interval.ms": int(max(300.0, settings.session_timeout) * 1000),
                    "queued.max.messages.kbytes": QUEUE_KBYTES,
                    "error_cb": log_error,
                    "on_commit": self._on_commit,
                },
            ),
        )
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    async def read(self, limit: int) -> list[tuple[Assignment, Message]]:
        """Return up to ``limit`` records that have arrived. With 0, only keep the group membership alive."""
        return await self._loop.run_in_executor(self._thread, self._read, min(limit, BATCH))

    def commit(self) -> None:
        """Start to commit what is finished, unless a commit is in flight."""
        if not self._committing:
            self._commit(list(self._assignments.values()))

    @property
    def assignments(self) -> list[Assignment]:
        """Return the partitions that this process has now."""
        return list(self._assignments.values())

    def lags(self) -> list[Lag]:
        """Return the lag of each assigned partition, by the end offset that librdkafka last received."""
        found = []
        for assignment in list(self._assignments.values()):
            if (end := assignment.end) is not None:
                position = end if assignment.position is None else assignment.position
                found.append(Lag(assignment.topic, assignment.partition, max(0, end - position)))
        return found

    async def close(self) -> None:
        """Commit what is finished and leave the group, or let the session time out where Kafka does not answer."""
        self._thread.shutdown()
        closed = asyncio.Event()

        def close() -> None:
            self._commit(list(self._assignments.values()))
            self._consumer.close()  # waits for the commit
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(closed.set)

        # A daemon thread, which may outlive this call: librdkafka's close has no timeout.
        threading.Thread(target=close, name=f"{self._stage}-close", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await closed.wait()
        except TimeoutError:
            self._log.warning("group not left in order", remedy="none: uncommitted offsets are read again")

    def _read(self, limit: int) -> list[tuple[Assignment, Message]]:
        if limit == 0:
            # At every call: a newly assigned partition is not paused yet.
            self._consumer.pause(self._consumer.assignment())
            self._paused = True
        elif self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False
        read: list[tuple[Assignment, Message]] = []
        message = self._consumer.poll(POLL_SECONDS)
        while message is not None:
            if (error := message.error()) is not None:
                if error.fatal():
                    raise KafkaException(error)
                log_error(error)
            elif (assignment := self._assignments.get(message.partition() or 0)) is not None:
                read.append((assignment, message))
            if len(read) >= limit:
                break
            message = self._consumer.poll(0)
        self._note_ends()
        return read

    def _note_ends(self) -> None:
        """Record the partitions' end offsets, here between two polls.

        A consumer of confluent-kafka is locked while it polls: another thread that asks it for anything, also for a
        cached offset, waits until the poll is over. A scrape of the metrics would hold up the event loop.
        """
        for assignment in list(self._assignments.values()):
            place = TopicPartition(assignment.topic, assignment.partition)
            _, end = self._consumer.get_watermark_offsets(place, cached=True)
            if end >= 0:
                assignment.end = end

    def _commit(self, assignments: Iterable[Assignment]) -> None:
        """Commit asynchronously. A synchronous commit waits for an absent coordinator, for up to a session timeout."""
        if offsets := [offset for assignment in assignments if (offset := assignment.to_commit())]:
            self._committing = True
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                self._on_commit(error.args[0], offsets)

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """Record the result of a commit. A failed one needs no retry: the next commit covers its offsets."""
        self._committing = False
        if error is not None:
            if error.name() != self._commit_error:
                level = self._log.info if error.code() in COMMIT_LOST else self._log.warning
                level("offsets not committed", error=error.name())
            self._commit_error = error.name()
            return
        self._commit_error = None
        for offset in offsets:
            if offset.error is None and (assignment := self._assignments.get(offset.partition)):
                assignment.committed = offset.offset

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._assignments[partition.partition] = Assignment(partition.topic, partition.partition)
        self.joined = True
        self._log.info("partitions assigned", partitions=sorted(self._assignments))

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        ended = [known for partition in partitions if (known := self._assignments.get(partition.partition))]
        self._drain(ended)
        self._commit(ended)
        self._forget(ended)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget([known for partition in partitions if (known := self._assignments.get(partition.partition))])

    def _forget(self, ended: list[Assignment]) -> None:
        for assignment in ended:
            assignment.revoked = True
            del self._assignments[assignment.partition]
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_revoked, ended)
