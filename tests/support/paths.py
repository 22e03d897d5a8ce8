"""Folders of the repository that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
DOCKER = ROOT / "docker"
DOCS = ROOT / "docs"
GOLDEN = ROOT / "tests" / "golden"
SAMPLES = ROOT / "streams" / "demo" / "samples"
"""The webhooks that ``fhirline demo`` posts."""
