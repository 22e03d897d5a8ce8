"""Dead letters into files, for their owner only (mode 0600; folders 0700): they may hold patients' data."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.operate.dead_letters.cases import Case
from fhirline.streams.operate.dead_letters.view import case_document, payload_document

OWNER_ONLY = 0o600


def to_lines(path: Path, cases: Iterable[tuple[Case, ConsumerRecord | None]]) -> int:
    """JSON Lines, one case a line, with key and payload where a record is given; how many."""
    count = 0
    with _opened(path) as file:
        for case, record in cases:
            document = case_document(case) | (payload_document(record) if record else {})
            file.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def to_folder(path: Path, cases: Iterable[tuple[Case, ConsumerRecord | None]]) -> int:
    """``<id>.json`` for each case and, where a record is given, ``<id>.payload``: the value byte for byte; how many."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    """A new file, or the same one anew, its mode set before anything is in it."""
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY), "wb")
        os.fchmod(file.fileno(), OWNER_ONLY)  # a file that was there keeps its mode otherwise
    except OSError as error:
        raise ConfigurationError(f"--to {path}: {error.strerror}") from None
    return file
