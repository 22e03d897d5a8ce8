"""Events of a raw topic, as many at a time as have come, none of them acked (faust.md §3.2).

What Faust's own ``noack_take`` does by a timer that never rests: each agent wakes every few milliseconds whether
anything has come or not. Here nothing wakes but what comes.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any


async def take_batches(stream: Any, most: int, within: float) -> AsyncGenerator[list[Any], None]:
    """Lists of 1 to ``most`` events of an agent's ``stream``; ends with it.

    ``within``: seconds that the first of a batch waits for others. While a batch is worked on, one event is taken
    beyond it; the others stay in Faust's queue, which holds up the fetches when it is full. Whatever was taken when the
    stream ends, or the caller, is not acked, and so is read again.
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
