"""Batches of a raw topic's events, none of them acknowledged (faust.md §3.2).

Faust's own ``noack_take`` polls: each agent wakes every few milliseconds whether anything has come or not. Here only an
event wakes it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

MOST_BYTES = 16_777_216
"""Bytes of events at which a batch takes no more, and at which no more are fetched of a topic (`transport`). Numbers of
events alone bound nothing: 500 events of 4 MiB are twice the memory of a small container."""


def event_bytes(event: Any) -> int:
    """Return the size of an event's body."""
    return len(event.message.value or b"")


async def take_batches(
    stream: Any, most: int, within: float, size: Callable[[Any], int] = event_bytes
) -> AsyncGenerator[list[Any], None]:
    """Yield lists of 1 to ``most`` events of an agent's ``stream``, until the stream ends.

    A list ends with the event that brings it to `MOST_BYTES`. ``within``: seconds that its first event waits for
    others. While a batch is worked on, one event beyond it is taken. The others stay in Faust's queue, which stops the
    fetches when it is full. What was taken when the stream or the caller ends is not acknowledged, so it is read again.
    """
    stream.enable_acks = False
    events = stream.events()
    coming = asyncio.ensure_future(anext(events))
    try:
        while True:
            batch = [await coming]
            taken = size(batch[0])
            until = time.monotonic() + within
            coming = asyncio.ensure_future(anext(events))
            while len(batch) < most and taken < MOST_BYTES:
                if not (await asyncio.wait({coming}, timeout=max(0.0, until - time.monotonic())))[0]:
                    break
                batch.append(await coming)
                taken += size(batch[-1])
                coming = asyncio.ensure_future(anext(events))
            yield batch
    except StopAsyncIteration:
        return
    finally:
        coming.cancel()
