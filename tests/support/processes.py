"""``fhirline`` commands as processes, with all that they printed."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from fhirline.streams.demo.stack import STOP_SECONDS, Process
from tests.support.cli import piped


class ForkedProcess(Process):
    """A `Process` that is forked by the server of the commands, unless Python itself is to start otherwise."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], echo: Callable[[str], None]) -> None:
        super().__init__(arguments[0], *arguments, environment=environment, echo=echo)

    def _started(self, arguments: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
        if any(name.startswith("PYTHON") and os.environ.get(name) != value for name, value in environment.items()):
            return super()._started(arguments, environment)
        process = piped(*arguments, env=environment, cwd=os.getcwd(), new_session=True)
        return cast("subprocess.Popen[str]", process)


class Command(ForkedProcess):
    """A process that keeps all lines it printed, each after its name and a colon."""

    def __init__(self, *arguments: str, environ: dict[str, str]) -> None:
        self.printed: list[str] = []
        self._called = arguments, {"FHIRLINE_STOP_TIMEOUT": f"{STOP_SECONDS - 10:g}", **environ}  # a slow machine
        super().__init__(*self._called[0], environment=self._called[1], echo=self.printed.append)

    def start_again(self) -> None:
        """Start the command again after its end. What it printed stays; what it logged is waited for anew."""
        super().__init__(*self._called[0], environment=self._called[1], echo=self.printed.append)

    @property
    def output(self) -> str:
        return "\n".join(self.printed)

    def said(self) -> list[str]:
        """Return the lines in plain words, which are for the operator."""
        return [line.partition(": ")[2] for line in self.printed if line.partition(": ")[2].startswith("fhirline")]


@contextmanager
def command(*arguments: str, environ: dict[str, str]) -> Iterator[Command]:
    """Run a command until the context ends."""
    process = Command(*arguments, environ=environ)
    try:
        yield process
    finally:
        process.stop()
