"""Folders and files of the repository that tests read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
DOCKER = ROOT / "docker"
DOCS = ROOT / "docs"
GOLDEN = ROOT / "tests" / "golden"
SAMPLES = ROOT / "streams" / "demo" / "samples"
"""The webhooks that ``fhirline demo`` posts."""


def files_with(pattern: str) -> list[str]:
    """Return the code files of the package in which a pattern is found, once for each time."""
    found = []
    for top in ("config", "mappers", "streams", "topics"):
        for path in (ROOT / top).rglob("*.py"):
            found += [path.relative_to(ROOT).as_posix()] * len(re.findall(pattern, path.read_text("utf-8")))
    return sorted(found)
