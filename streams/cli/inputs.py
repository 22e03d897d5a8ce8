"""Files of webhook bodies that commands read."""

from io import BufferedReader
from typing import BinaryIO

from fhirline.config.errors import ConfigurationError
from fhirline.mappers.pipeline.body import other_format


def check_format(name: str, stream: BinaryIO) -> None:
    """Raise ConfigurationError for a file whose first bytes are compressed or not UTF-8. The stream stays unread."""
    found = other_format(stream.peek(8)) if isinstance(stream, BufferedReader) else None
    if found is not None:
        convert = f"convert it first, for example with iconv -f {found} -t UTF-8"
        way = convert if found.startswith("UTF-") else "unpack it first"
        raise ConfigurationError(f"{name}: the file is {found}, not UTF-8 text; {way}")
