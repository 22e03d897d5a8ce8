"""``fhirline`` commands as processes, with all that they printed."""

from collections.abc import Iterator
from contextlib import contextmanager

from fhirline.streams.demo.stack import STOP_SECONDS, Process


class Command(Process):
    """A process that keeps all lines it printed, each after its name and a colon."""

    def __init__(self, *arguments: str, environ: dict[str, str]) -> None:
        self.printed: list[str] = []
        environment = {"FHIRLINE_STOP_TIMEOUT": f"{STOP_SECONDS - 10:g}", **environ}  # the tests' machine is slow
        super().__init__(arguments[0], *arguments, environment=environment, echo=self.printed.append)

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
