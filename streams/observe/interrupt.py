"""Ctrl-C where a KeyboardInterrupt must not be raised."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event to poll.

    A KeyboardInterrupt raised inside the `wait` of a future or a client may leave its lock held. Its thread, or its
    `close`, then waits forever.

    For the main thread, which may call ``is_set()`` but not ``wait()``: the signal handler would need the lock that
    ``wait()`` holds.
    """
    pressed = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
