"""The manifest of an export: FHIR Bulk Data's, with the SHA-256 and size of each file beside it."""

import hashlib
from pathlib import Path
from typing import Any

import orjson

from fhirline.streams.operate.export.ndjson import DELETED
from fhirline.streams.operate.export.request import MANIFEST, Journal, write_whole

PARQUET = "parquet"


def write_manifest(journal: Journal, request_line: str) -> dict[str, Any]:
    """Write ``manifest.json``: the export is complete. Return its content.

    ``transactionTime`` is the export's begin: everything that was written to Kafka before it is in the files.
    """
    output, deleted, tables = [], [], []
    for name, count in sorted(journal.counts.items()):
        path = journal.folder / name
        extension = {"bytes": path.stat().st_size, "sha256": sha256(path)}
        if name.startswith(f"{PARQUET}/"):
            tables.append({"view": name.split("/")[1], "url": name, "count": count, "extension": extension})
        elif name == DELETED:
            deleted.append({"type": "Bundle", "url": name, "count": count, "extension": extension})
        else:
            output.append({"type": path.stem, "url": name, "count": count, "extension": extension})
    content: dict[str, Any] = {
        "transactionTime": journal.started,
        "request": request_line,
        "requiresAccessToken": False,
        "output": output,
        "deleted": deleted,
        "error": [],
        "extension": {"tables": tables},
    }
    write_whole(journal.folder / MANIFEST, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    journal.remove()
    return content


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
