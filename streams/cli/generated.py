"""Generated files: printing one, or comparing it with the file that is there (``--check``)."""

import sys
from itertools import zip_longest
from pathlib import Path

import typer

from fhirline.config.errors import ConfigurationError
from fhirline.config.exit_codes import DIFFERS


def print_or_compare(current: str, check: Path | None, source: str, command: str) -> None:
    """Print ``current``, as UTF-8, or compare it with the file ``check``.

    Where they differ, the command ends with `DIFFERS`. ``source``: what ``current`` is made of. Raises
    ConfigurationError where the file cannot be read.
    """
    if check is None:
        sys.stdout.buffer.write(current.encode())
        return
    try:
        text = check.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"--check: cannot read {check}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--check: {check} is not UTF-8 text") from None
    if text == current:
        return
    pairs = zip_longest(text.splitlines(), current.splitlines())
    line = next((number for number, (has, should) in enumerate(pairs, 1) if has != should), 1)
    print(f"{check}:{line}: differs from {source}; update it: {command} > {check}", file=sys.stderr)
    raise typer.Exit(DIFFERS)
