"""Export of dead letters, which may contain patient data, to files of mode 0600 and folders of mode 0700."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.config.private_files import open_private, private_folder
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.operate.dead_letters.cases import Case
from fhirline.streams.operate.dead_letters.view import case_document, payload_document


def line(case: Case, record: ConsumerRecord | None) -> bytes:
    """Make a case's line of JSON, with key and payload where a record is given."""
    document = case_document(case) | (payload_document(record) if record else {})
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def to_lines(path: Path, cases: Iterable[tuple[Case, ConsumerRecord | None]]) -> int:
    """Write a line per case. Return the number of cases."""
    count = 0
    with _opened(path) as file:
        for case, record in cases:
            file.write(line(case, record))
            count += 1
    return count


def to_folder(path: Path, cases: Iterable[tuple[Case, ConsumerRecord | None]]) -> int:
    """Write ``<id>.json`` per case and, where a record is given, its value to ``<id>.payload``. Return the number."""
    try:
        private_folder(path)
    except OSError as error:
        raise ConfigurationError(f"--to {path}: {error.strerror}") from None
    count = 0
    for case, record in cases:
        name = re.sub(r"[^a-zA-Z0-9._-]", "_", case.id)
        with _opened(path / f"{name}.json") as file:
            document = case_document(case)
            if record:
                document["key"] = payload_document(record)["key"]
            file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        if record and record.value is not None:
            with _opened(path / f"{name}.payload") as file:
                file.write(record.value)
        count += 1
    return count


def _opened(path: Path) -> BinaryIO:
    """Open a new or emptied file, whose mode is set before anything is written."""
    try:
        return open_private(path)
    except OSError as error:
        raise ConfigurationError(f"--to {path}: {error.strerror}") from None
