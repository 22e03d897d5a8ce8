"""FHIR NDJSON: one file for each type, a resource in each line; deletions as Bundles, as Bulk Data has them."""

import os
from pathlib import Path
from typing import BinaryIO

import orjson

from fhirline.config.private_files import open_private

DELETED = "deleted/Bundle.ndjson"


class NdjsonFiles:
    """Files that grow, partition by partition.

    ``sizes``: how long the files are that a journal has noted. What a killed process has added to them, and files that
    are not noted, are removed.
    """

    def __init__(self, folder: Path, sizes: dict[str, int]) -> None:
        self._folder = folder
        self._open: dict[str, BinaryIO] = {}
        for path in folder.rglob("*.ndjson"):
            if (size := sizes.get(str(path.relative_to(folder)))) is None:
                path.unlink()
            else:
                os.truncate(path, size)
        self.counts: dict[str, int] = {}
        """Lines that were added since `sync`, by file."""

    def add(self, resource_type: str, value: bytes) -> None:
        self._line(f"{resource_type}.ndjson", value)

    def add_deleted(self, key: str) -> None:
        entry = {"request": {"method": "DELETE", "url": key}}
        self._line(DELETED, orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]}))

    def sync(self) -> tuple[dict[str, int], dict[str, int]]:
        """Bring all lines to the disk. Return the lines that were added to each file, and the files' sizes."""
        sizes = {}
        for name, file in self._open.items():
            file.flush()
            os.fsync(file.fileno())
            sizes[name] = file.tell()
        counts, self.counts = self.counts, {}
        return counts, sizes

    def close(self) -> None:
        for file in self._open.values():
            file.close()

    def _line(self, name: str, value: bytes) -> None:
        file = self._open.get(name)
        if file is None:
            path = self._folder / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            file = self._open[name] = open_private(path, empty=False)
            file.seek(0, os.SEEK_END)
        file.write(value)
        file.write(b"\n")
        self.counts[name] = self.counts.get(name, 0) + 1
