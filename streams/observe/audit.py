"""The audit log: who saw a patient's data, or erased it, and why. One line each, on standard error."""

import getpass
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from threading import Event
from typing import NamedTuple

import structlog

KEPT = 1_000
"""Audit lines of this process that it keeps in memory."""


class AuditLine(NamedTuple):
    """An audit line. ``at``: UNIX seconds. The others are the arguments of `audit`; ``who`` is the process's user."""

    at: float
    event: str
    by: str
    who: str
    name: str | None
    fields: Mapping[str, str | None]


_lines: deque[AuditLine] = deque(maxlen=KEPT)
_left_to_starter = Event()


def leave_to_starter() -> None:
    """Write no audit lines in this process: the console that started it has written the line of its action."""
    _left_to_starter.set()


def audit(event: str, *, by: str, name: str | None, **fields: str | None) -> None:
    """Write an audit line. Call it before the action, so that nothing happens without its line.

    ``by``: the command. ``name``: the person named with ``--as``, logged as ``as``. ``fields`` contain no payload and
    no key. The field ``who`` is the operating system's user. FHIRLINE_LOG_LEVEL does not filter audit lines.
    """
    if _left_to_starter.is_set():
        return
    unfiltered = structlog.make_filtering_bound_logger(0)
    log = structlog.wrap_logger(structlog.WriteLogger(sys.stderr), wrapper_class=unfiltered).bind(logger="audit")
    log.info(event, **fields, by=by, who=who(), **({"as": name} if name else {}))
    _lines.append(AuditLine(time.time(), event, by, who(), name, fields))


def lines() -> list[AuditLine]:
    """Return the last `KEPT` audit lines of this process, the oldest first."""
    return [*_lines.copy()]  # a copy is whole, whichever thread writes


def who() -> str:
    """Return the name of this process's user id, whatever the environment contains."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except ImportError:  # Windows has no user ids
        return getpass.getuser()
    except KeyError:  # a container's user without a name
        return f"uid {os.getuid()}"
