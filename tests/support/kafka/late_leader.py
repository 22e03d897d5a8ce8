"""Between clients and a broker: the moment in which it becomes a partition's leader, as often as a test wants it."""

import asyncio
import struct
import threading
from contextlib import suppress
from types import TracebackType

from tests.support.kafka.apache import HOST

PRODUCE = 0
NOT_LEADER_OR_FOLLOWER = 6
BEHIND = 2.0
"""Seconds in which a client that sends more than one request at a time sends the next: one that does not, will not."""


class LateLeader:
    """A proxy that turns the next produce request away after `turn_away`, and passes on all that come behind it.

    The broker must advertise `port`; `behind` leads to it. Requests that were turned away never reach the broker::

        with LateLeader() as leader, apache(advertised_listeners=f"PLAINTEXT://127.0.0.1:{leader.port}") as kafka:
            leader.behind(kafka.brokers[1].port)
    """

    def __init__(self) -> None:
        self.port = 0
        self.turned_away = 0
        self._broker = 0
        self._armed = False
        self._wait = BEHIND
        self._awaited = 1
        self._refusal_first = False
        self._unanswered: set[bytes] = set()
        """Correlation ids of the requests behind the one that is turned away."""
        self._answered = asyncio.Event()
        self._refused = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="late leader")

    def __enter__(self) -> "LateLeader":
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def behind(self, broker: int) -> None:
        self._broker = broker

    def turn_away(self, wait: float = BEHIND, behind: int = 1, refusal_first: bool = False) -> None:
        """Turn the next produce request away, once ``behind`` more have come behind it, at the latest after ``wait``.

        ``wait``: seconds. ``refusal_first``: the client gets the refusal before the answers to those behind, not after
        them. The broker has accepted them in both cases.
        """
        self._wait, self._awaited, self._refusal_first, self.turned_away = wait, behind, refusal_first, 0
        self._answered.clear()
        self._refused.clear()
        self._armed = True

    async def _begin(self) -> int:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            broker, to_broker = await asyncio.open_connection(HOST, self._broker)
        except ConnectionError:  # it has ended, and a client does not know yet
            return to_client.close()
        ends = [
            asyncio.create_task(item)
            for item in (self._requests(client, to_client, to_broker), self._answers(broker, to_client))
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            to_client.close()
            to_broker.close()

    async def _requests(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, to_broker: asyncio.StreamWriter
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await _frame(client)
                if not (self._armed and _key(frame) == PRODUCE):
                    _send(to_broker, frame)
                    continue
                self._armed = False
                behind = asyncio.create_task(self._pass_behind(client, to_broker))
                passed, _ = await asyncio.wait([behind], timeout=self._wait)
                if passed and not self._refusal_first:
                    await self._answered.wait()
                _send(to_client, _refused(frame))
                self.turned_away += 1
                self._refused.set()
                await behind

    async def _pass_behind(self, client: asyncio.StreamReader, to_broker: asyncio.StreamWriter) -> None:
        """Pass requests on, up to the last produce request that is awaited."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            left = self._awaited
            while left:
                frame = await _frame(client)
                if _key(frame) == PRODUCE:
                    left -= 1
                    self._unanswered.add(frame[4:8])
                _send(to_broker, frame)

    async def _answers(self, broker: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Pass answers on until one side is closed. Those to the requests behind have their order."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await _frame(broker)
                if (correlation := frame[:4]) not in self._unanswered:
                    _send(to_client, frame)
                    continue
                if self._refusal_first:
                    await self._refused.wait()
                _send(to_client, frame)
                self._unanswered.remove(correlation)
                if not self._unanswered:
                    self._answered.set()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    """Whole, in one go: both directions write to the client."""
    writer.write(struct.pack(">i", len(frame)) + frame)


def _key(frame: bytes) -> int:
    return int.from_bytes(frame[:2])


def _refused(frame: bytes) -> bytes:
    """ProduceResponse (flexible versions, 9 to 12) to a request of one partition: not its leader.

    Request: key, version, correlation id, client id, tags; transactional id, acks, timeout, [topic, [index, records]].
    """
    _, version, correlation, client = struct.unpack(">hhih", frame[:10])
    assert 9 <= version <= 12, f"ProduceRequest of version {version}"
    at = 10 + max(0, client) + len(b"\0\0") + 2 + 4 + 1  # tags, no transactional id; acks, timeout; one topic
    topic = frame[at : at + frame[at]]  # a compact string: its length and one, then itself
    index = frame[at + len(topic) + 1 :][:4]
    partition = index + struct.pack(">hqqq", NOT_LEADER_OR_FOLLOWER, -1, -1, -1) + b"\1\0\0"  # no errors, message, tags
    return struct.pack(">i", correlation) + b"\0\2" + topic + b"\2" + partition + b"\0" + bytes(4) + b"\0"
