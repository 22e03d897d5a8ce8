"""Digests of the tables of this folder, with the rows that a deployment adds or overrides.

Two processes with equal digests read the same words, flags and secrets. ``vendors.yaml`` is not among the tables.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import orjson

from fhirline.config.terminology import Row, Terminology

NOT_OF_OUTPUTS = frozenset({"vendors.yaml", "fhir-servers.yaml"})
"""Files that decide no word of an output by themselves: a deployment replaces the first, the second is for delivery."""

VERSION_DIGITS = 16
"""Hex digits of a tables version: 64 bits."""

_WITHOUT_EVIDENCE: Any = {"evidence": True, "codings": {"__all__": {"evidence"}}}
"""The part of a row that decides no output: the place where its code was checked."""


@lru_cache(maxsize=8)
def table_digests(terminology: Terminology) -> Mapping[str, str]:
    """Return the digest of each table by its path below ``config/``: code tables, flags, secrets, bindings.

    A code table's digest covers its rows as they apply, by the normalized words. That of another table covers the
    packaged file's bytes.
    """
    digests = {f"terminology/{name}.yaml": digest(_rows(terminology.rows(name))) for name in terminology.names}
    for file in files("fhirline.config").iterdir():
        if file.name.endswith((".yaml", ".json")) and file.name not in NOT_OF_OUTPUTS:
            digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return dict(sorted(digests.items()))


@lru_cache(maxsize=8)
def tables_version(terminology: Terminology) -> str:
    """Return the version of all tables together: the header ``tables-version``. Computed once per process."""
    return digest(table_digests(terminology))[:VERSION_DIGITS]


def digest(document: object) -> str:
    """Digest a JSON document, whatever the order of its keys: SHA-256 in hex digits."""
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _rows(rows: Mapping[str, Row]) -> dict[str, Any]:
    return {words: row.model_dump(mode="json", exclude=_WITHOUT_EVIDENCE) for words, row in rows.items()}
