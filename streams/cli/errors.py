"""The end of a command by an error: one line on standard error and an exit code, for all commands."""

import errno
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

from fhirline.config.errors import ConfigurationError, FhirlineError, KafkaAccessError
from fhirline.config.exit_codes import INTERRUPTED, UNREAD, UNUSABLE
from fhirline.streams.cli.standard_files import ended_by_reader, flush_output, watched_output


class CommandFailed(FhirlineError):
    """The command ends early. `run` prints ``fhirline COMMAND: message`` and exits with ``exit_code``."""

    def __init__(self, command: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.command = command
        self.exit_code = exit_code


def run(command_line: Callable[[], None]) -> None:
    """Run the command line. Any other exception is a defect of ours, and keeps its traceback."""
    output = watched_output()
    try:
        _run(command_line)
    except OSError as error:
        if output is None or error is not output.failure:
            raise
    finally:
        flush_output()
        if output is not None and output.failure is not None:
            _end_without_output(output.failure)


def _run(command_line: Callable[[], None]) -> None:
    try:
        command_line()
    except CommandFailed as failure:
        _end(f"fhirline {failure.command}: {failure}", failure.exit_code)
    except (ConfigurationError, KafkaAccessError) as error:
        _end(f"fhirline: {error}", UNUSABLE)
    except KeyboardInterrupt:  # while a command is imported: Typer turns later ones into the same exit code
        _end("fhirline: interrupted", INTERRUPTED)


@contextmanager
def failing_with(command: str, exit_codes: Mapping[type[BaseException], int], hint: str = "") -> Iterator[None]:
    """Turn the given exceptions into `CommandFailed`. ``hint`` says what to do next; it follows the error's text.

    An exception's own class goes before its base classes.
    """
    try:
        yield
    except tuple(exit_codes) as error:
        own = next(kind for kind in type(error).__mro__ if kind in exit_codes)
        text = str(error) or "interrupted"  # KeyboardInterrupt has no text
        raise CommandFailed(command, f"{text}; {hint}" if hint else text, exit_codes[own]) from None


def warn(command: str, message: str) -> None:
    """Print one line on standard error, in the form of an error, and go on."""
    print(f"fhirline {command}: {message}", file=sys.stderr, flush=True)


def _end_without_output(failure: OSError) -> NoReturn:
    """End where not all of the result could be written: silently where its reader has ended, as other programs do."""
    if ended_by_reader(failure):
        sys.exit(UNREAD)
    what = " is closed" if failure.errno == errno.EBADF else f": {failure.strerror}"
    _end(f"fhirline: standard output{what}; not all of the result was written", UNUSABLE)


def _end(line: str, exit_code: int) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    sys.exit(exit_code)
