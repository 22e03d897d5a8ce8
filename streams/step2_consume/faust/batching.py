"""Batches of a raw topic's events, none of them acknowledged (faust.md §3.2).

Faust's own ``noack_take`` polls: each agent wakes every few milliseconds whether anything has come or not. Here only an
event wakes it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any


async def take_batches(stream: Any, most: int, within: float) -> AsyncGenerator[list[Any], None]:
    """Yield lists of 1 to ``most`` events of an agent's ``stream``, until the stream ends.

    ``within``: seconds that a batch's first event waits for others. While a batch is worked on, one event beyond it is
    taken. The others stay in Faust's queue, which stops the fetches when it is full. What was taken when the stream or
    the caller ends is not acknowledged, so it is read again.
    """
    stream.enable_acks = False
    events = stream.events()
    coming = asyncio.ensure_future(anext(events))
    try:
        while True:
            batch = [await coming]
            until = time.monotonic() + within
            coming = asyncio.ensure_future(anext(events))
            while len(batch) < most and (await asyncio.wait({coming}, timeout=max(0.0, until - time.monotonic())))[0]:
                batch.append(await coming)
                coming = asyncio.ensure_future(anext(events))
            yield batch
    except StopAsyncIteration:
        return
    finally:
        coming.cancel()
