"""Replays that the console begins: ``fhirline replay`` as a process of its own, one at a time.

The process has the console's settings, and memory and signals of its own. It can be stopped, and its run is resumed
like any other (docs/replay.md).
"""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog

from fhirline.config.exit_codes import DIFFERS, DONE, INCOMPLETE, INTERRUPTED
from fhirline.streams.console.jobs import Job
from fhirline.streams.observe.logs import describe_error
from fhirline.streams.operate.replay import folders
from fhirline.streams.operate.replay.selection import Selection

log = structlog.get_logger()

Doing = Literal["compare", "publish"]

PROGRAM = (
    "from fhirline.streams.cli import main; from fhirline.streams.observe.audit import leave_to_starter; "
    "leave_to_starter(); main()"
)
"""``fhirline`` without audit lines: the console has written one before it starts a process, with who asked for it."""

LINES = 200
"""Lines that are kept of what a process prints."""
LONGEST_LINE = 65_536
STOP_SECONDS = 20.0
"""Seconds in which a process that is told to stop finishes its batches. What it has not finished is repeated."""


@dataclass(slots=True, eq=False)
class Replay(Job):
    """A replay's process, or one that has ended. ``about``: what is mapped. ``prefix``: of the topics, if others.

    ``progress``: its lines on standard error. ``printed``: those on standard output. ``run``: the run's id, once it has
    ended; None where it has left no folder.
    """

    doing: Doing
    about: str
    prefix: str
    run: str | None
    progress: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    printed: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    exit_code: int | None = None
    process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self.exit_code is None

    @property
    def complete(self) -> bool:
        """Tell whether everything is published, or nothing differs. Events that cannot be mapped do not count."""
        return self.exit_code == DONE or (self.failed and self.run is None)

    @property
    def partial(self) -> bool:
        """Tell whether something differs, or could not be published."""
        return self.run is not None and self.exit_code in (DIFFERS, INCOMPLETE) and bool(self.printed)  # not a crash

    @property
    def failed(self) -> bool:
        """Tell whether events could not be mapped."""
        return any(" mapped; " in line and "; failed: " in line for line in self.printed)

    @property
    def stopped(self) -> bool:
        """Tell whether it was stopped before its end, by whomever sent the signal."""
        return self.exit_code == INTERRUPTED or (self.stopping and bool(self.exit_code))

    @property
    def last_line(self) -> str:
        return self.progress[-1] if self.progress else ""


class Replays:
    """Begins replays. ``current``: the one that runs, or ended last. Used on the event loop only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier: frozenset[str] = frozenset()
        """Runs that were there when the process began: after a restart, one of them may end with the same number."""
        self._task: asyncio.Task[None] | None = None
        self.current: Replay | None = None

    @property
    def running(self) -> bool:
        return self.current is not None and self.current.running

    async def begin(self, replay: Replay, arguments: Sequence[str]) -> None:
        """Start the process. The caller has seen that none is running. Raises ConfigurationError as `folders.ids`."""
        assert not self.running
        self._earlier = frozenset(folders.ids(self._folder))
        before, self.current = self.current, replay  # nobody else begins one meanwhile
        try:
            replay.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                PROGRAM,
                "replay",
                *arguments,
                env={**os.environ, "FHIRLINE_LOG_FORMAT": "json"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LONGEST_LINE,
                start_new_session=True,  # Ctrl-C reaches the console alone, which stops it in order
            )
        except BaseException:
            self.current = before
            raise
        self._task = asyncio.create_task(self._follow(replay, replay.process))

    def stop(self) -> None:
        """Let the process finish the batches that it is mapping, and end."""
        if self.current is not None and self.current.running and self.current.process is not None:
            self.current.stopping = True
            with suppress(ProcessLookupError):
                self.current.process.send_signal(signal.SIGINT)

    async def close(self) -> None:
        """Stop the process, and kill it where it does not end in time."""
        self.stop()
        if self._task is None or self.current is None or self.current.process is None:
            return
        done, _ = await asyncio.wait([self._task], timeout=STOP_SECONDS)
        if not done:
            with suppress(ProcessLookupError):
                self.current.process.kill()
            await self._task

    async def _follow(self, replay: Replay, process: asyncio.subprocess.Process) -> None:
        """Take the process's lines until it ends. Whatever fails here, the replay counts as running no longer."""
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            await asyncio.gather(
                _read(process.stdout, replay.printed, replay),
                _read(process.stderr, replay.progress, replay),
            )
            await process.wait()
            replay.run = self._run_of(replay.run, process.pid)
        except Exception as error:  # noqa: BLE001  # a traceback may hold a payload
            log.error("replay not followed", error=describe_error(error))
            with suppress(ProcessLookupError):
                process.kill()  # nobody reads what it prints: it would wait for that, and never end
        finally:
            replay.exit_code = await process.wait()
            replay.notify()

    def _run_of(self, run: str | None, pid: int) -> str | None:
        """Return the run if it has a folder; of a new run, whose id ends with the number of its process, find it."""
        there = folders.ids(self._folder)
        if run is not None:
            return run if run in there else None
        return next((id for id in there if id not in self._earlier and id.endswith(f"-{pid}")), None)


async def _read(stream: asyncio.StreamReader, lines: "deque[str]", replay: Replay) -> None:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than LONGEST_LINE, and dropped
            continue
        if not line:
            return
        text = line.decode("utf-8", "replace").rstrip()
        if lines is replay.progress and text.startswith("{"):  # of the log
            print(text, file=sys.stderr, flush=True)
        else:
            lines.append(text)
            replay.notify()


def options(selection: Selection) -> list[str]:
    """Return the options of ``fhirline replay`` for a selection that names no patient.

    >>> options(Selection(("altibbi",), since="2026-01-01T00:00:00Z"))
    ['--vendor=altibbi', '--since=2026-01-01T00:00:00Z']
    """
    assert selection.patient is None, "it would be in the list of processes"
    until = "--as-of" if selection.as_of else "--until"
    return [
        *(f"--vendor={vendor}" for vendor in selection.vendors),
        *([f"--tenant={selection.tenant}"] if selection.tenant else []),
        *([f"--since={selection.since}"] if selection.since else []),
        *([f"{until}={selection.until}"] if selection.until else []),
        *([f"--time={selection.time}"] if selection.time != "record" else []),
        *([f"--partitions={','.join(map(str, selection.partitions))}"] if selection.partitions is not None else []),
        *(f"--event-type={name}" for name in selection.event_types),
        *(["--dead-letters"] if selection.dead_letters else []),
    ]
