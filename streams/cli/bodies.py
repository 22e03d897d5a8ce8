"""Webhook bodies from files and standard input, for commands that map without Kafka."""

import sys
from collections.abc import Iterator
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.inputs import check_format

BLANK = b"\xef\xbb\xbf \t\r\n"
"""Bytes of a line that holds no event: white space and the byte order mark."""

_MOST_LINES = 10
"""Lines that are looked at to tell whether a file has one body per line."""


def hint_of_lines(body: bytes) -> str:
    """Return what to add to the error of a body that cannot be read, if it looks like one body per line."""
    lines = [line for part in body.split(b"\n", _MOST_LINES) if (line := part.strip(BLANK))][:2]
    several = len(lines) == 2 and all(line.startswith(b"{") and line.endswith(b"}") for line in lines)
    return "; it seems to have one body per line: try --ndjson" if several else ""


def bodies(files: list[str], ndjson: bool) -> Iterator[tuple[str, bytes]]:
    """Read each body, with a name for messages: ``file`` or ``file:line``."""
    for file in files:
        try:
            stream = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115  # closed below
        except OSError as error:
            raise ConfigurationError(f"{file}: {error.strerror}") from None
        name = "standard input" if file == "-" else file
        with stream:
            check_format(name, stream)
            if ndjson:
                yield from ((f"{name}:{n}", line) for n, line in enumerate(stream, 1) if line.strip(BLANK))
            else:
                yield name, stream.read()
