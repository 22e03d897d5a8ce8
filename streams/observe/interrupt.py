"""Ctrl-C and other signals where they must not interrupt what is being done."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command: Ctrl-C, a supervisor, a closed terminal."""


@contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """Turn Ctrl-C and the other signals of `ENDING`, unless they are ignored (``nohup``), into an event to poll.

    A KeyboardInterrupt raised inside the `wait` of a future or a client may leave its lock held. Its thread, or its
    `close`, then waits forever.

    For the main thread, which may call ``is_set()`` but not ``wait()``: the signal handler would need the lock that
    ``wait()`` holds.
    """
    pressed = threading.Event()
    kept = {number for number in ENDING[1:] if signal.getsignal(number) == signal.SIG_IGN}
    with _handled_by(lambda *_: pressed.set(), [number for number in ENDING if number not in kept]):
        yield pressed


@contextmanager
def held_back(*numbers: signal.Signals) -> Iterator[None]:
    """Deliver these signals at the end of the block only.

    For the main thread, which alone handles signals; in another thread nothing changes.
    """
    came: list[int] = []
    with _handled_by(lambda number, _: came.append(number), numbers):
        yield
    for number in came[:1]:
        signal.raise_signal(number)


@contextmanager
def ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Ignore these signals meanwhile. In another than the main thread nothing changes."""
    with _handled_by(signal.SIG_IGN, numbers):
        yield


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers, numbers: Iterable[signal.Signals]
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
