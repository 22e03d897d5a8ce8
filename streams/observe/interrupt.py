"""Ctrl-C where it may not be raised."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """Ctrl-C as an event to look at. Raised in the midst of a future's or a client's `wait`, a KeyboardInterrupt may
    leave its lock held, for which its own thread, or its closing, then waits for ever.

    For the main thread, which may ask ``is_set()`` but not ``wait()``: the handler would want the lock that it holds.
    """
    pressed = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
