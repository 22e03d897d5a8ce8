"""Reading of sample webhook bodies: one JSON object, a JSON array of objects, or NDJSON in a file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.mappers.pipeline.body import Body, deeper_than

MAX_DEPTH = 64
"""Deepest nesting of a sample: the default of FHIRLINE_MAX_DEPTH, beyond which the gateway refuses a body."""

_KINDS = ((list, "an array"), (str, "a string"), (bool, "a boolean"), (int | float, "a number"))

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Sample:
    """One webhook body, and where it was read: ``file``, ``file:line`` or ``file[position]``."""

    origin: str
    body: Body


def read_samples(files: Iterable[Path]) -> list[Sample]:
    """Read every sample of the files, in order; raise ConfigurationError that names file, line and reason."""
    return [_checked(origin, value) for file in files for origin, value in _values(file)]


def _values(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the origin and the parsed JSON of each sample of a file."""
    try:
        text = file.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise ConfigurationError(f"--sample: {file}: {error.strerror}") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ConfigurationError(f"--sample: {file}: the file is empty")
    if len(lines) > 1 and _is_json(lines[0][1]):
        for number, line in lines:
            yield f"{file}:{number}", _parsed(file, line, number)
        return
    value = _parsed(file, text)
    if not isinstance(value, list):
        yield str(file), value
        return
    if not value:
        raise ConfigurationError(f"--sample: {file}: the array is empty")
    yield from ((f"{file}[{position}]", item) for position, item in enumerate(value))


def _parsed(file: Path, text: bytes, line: int = 1) -> Any:
    """Parse JSON that begins at a line of a file."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "UTF-8" in error.msg:
            raise ConfigurationError(f"--sample: {file}: not UTF-8; a webhook body is JSON in UTF-8") from None
        place = f"{file}:{line + error.lineno - 1}:{error.colno}" if error.doc else str(file)
        raise ConfigurationError(f"--sample: {place}: not JSON: {error.msg}") from None


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _checked(origin: str, value: Any) -> Sample:
    if not isinstance(value, dict):
        kind = next((name for type_, name in _KINDS if isinstance(value, type_)), "null")
        raise ConfigurationError(f"--sample: {origin}: a webhook body is a JSON object, and this is {kind}")
    if not value:
        raise ConfigurationError(f"--sample: {origin}: the object is empty")
    if deeper_than(value, MAX_DEPTH):
        raise ConfigurationError(f"--sample: {origin}: nested deeper than {MAX_DEPTH} levels")
    return Sample(origin, value)
