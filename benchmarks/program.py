"""A process that is measured: started on its core, its output kept in a file, ended by whoever started it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks import machine
from fhirline.config.own_command import own_command

ROOT = str(Path(__file__).parents[1])
STOP_SECONDS = 20.0
WAIT_SECONDS = 120.0


class BenchmarkFailed(RuntimeError):
    """A benchmark could not be measured; the message says why, with the last lines of the process."""


def fhirline(command: str) -> tuple[str, ...]:
    return tuple(own_command(command))


def module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)


class Program:
    """A running process; see `running`."""

    def __init__(
        self,
        name: str,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        cores: frozenset[int] | None,
        output: Path,
    ) -> None:
        self.name = name
        self._output = output
        with machine.on(cores), output.open("wb") as written:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": ROOT, "FHIRLINE_LOG_FORMAT": "json", **environment},
                cwd=output.parent,  # no .env is read, and Faust's folder of data goes with the rest
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the benchmark alone, which ends its processes in order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def usage(self) -> machine.Usage:
        self.check()
        return machine.usage(self.pid)

    def check(self) -> None:
        """Raise BenchmarkFailed where the process has ended."""
        if (code := self._process.poll()) is not None:
            raise BenchmarkFailed(self._report(f"ended with exit code {code}"))

    def wait_until(self, true: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
        """Poll a condition of the process (something it writes) until it holds."""
        end = time.monotonic() + seconds
        while not true():
            self.check()
            if time.monotonic() > end:
                raise BenchmarkFailed(self._report(f"within {seconds:g} s: not {what}"))
            time.sleep(0.02)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event so far."""
        lines = (line for line in self._output.read_bytes().splitlines() if line.startswith(b"{") and line[-1:] == b"}")
        return [found for line in lines if (found := orjson.loads(line)).get("event") == event]

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if it has not ended in time."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _report(self, what: str) -> str:
        last = self._output.read_text(errors="replace").splitlines()[-12:]
        return "\n".join([f"{self.name} {what}; its last lines:", *(f"  {line}" for line in last)])


@contextmanager
def running(
    name: str,
    command: tuple[str, ...],
    environment: Mapping[str, str],
    cores: frozenset[int] | None = machine.MEASURED,
) -> Iterator[Program]:
    """A process for the time of a ``with`` block."""
    with tempfile.TemporaryDirectory(prefix="fhirline-bench-") as folder:
        program = Program(name, command, environment, cores, Path(folder) / "output")
        try:
            yield program
        finally:
            program.stop()
