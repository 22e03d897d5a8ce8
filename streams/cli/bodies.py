"""Webhook bodies from files and standard input, for commands that map without Kafka."""

import sys
from collections.abc import Iterator
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.streams.cli.inputs import check_format

BLANK = b"\xef\xbb\xbf \t\r\n"
"""Bytes of a line that holds no event: white space and the byte order mark."""


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
