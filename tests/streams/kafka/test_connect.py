"""A process's first connection, to a cluster that takes its time."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fhirline.config.errors import KafkaUnreachable
from fhirline.streams.kafka.connect import ATTEMPT_SECONDS, connect
from tests.support.kafka.brokers import RunningBroker, settings_for
from tests.support.waiting import LIMIT

DELAY = 3 * ATTEMPT_SECONDS


@contextmanager
def far_away(port: int, delay: float) -> Iterator[str]:
    """Give the address of a proxy that holds back every answer of the broker for ``delay`` seconds.

    Answers name the proxy's port instead of the broker's, so that no client gets around it.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)

    async def requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = server.sockets[0].getsockname()[1]
        while True:
            size = await reader.readexactly(4)
            answer = await reader.readexactly(int.from_bytes(size))
            await asyncio.sleep(delay)
            writer.write(size + answer.replace(port.to_bytes(4), own.to_bytes(4)))

    async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        broker, to_broker = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(requests(client, to_broker), answers(broker, to_client), return_exceptions=True)

    async def end() -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0), loop).result(LIMIT)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(LIMIT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT)
        loop.close()


def test_an_answer_may_take_longer_than_the_first_attempt(embedded: RunningBroker) -> None:
    port = int(embedded.bootstrap.rpartition(":")[2])
    with far_away(port, DELAY) as address:
        assert "raw.mediquo" in connect(settings_for(address), LIMIT).topics


def test_an_answer_may_not_take_longer_than_was_said(embedded: RunningBroker) -> None:
    port = int(embedded.bootstrap.rpartition(":")[2])
    with far_away(port, DELAY) as address, pytest.raises(KafkaUnreachable, match=rf"answered at {address} within 1 s"):
        connect(settings_for(address), 1)
