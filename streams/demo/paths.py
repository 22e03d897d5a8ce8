"""The paths that demo and dev print, from the folder in which they were started."""

import sys
from importlib.resources import files
from pathlib import Path


def sample_path(file: str) -> str:
    """Return the path of a sample webhook that another program can open."""
    return from_here(Path(str(files("fhirline.streams.demo"))) / "samples" / file)


def program() -> str:
    """Return how this program is started from here: its name alone where the shell looked it up."""
    return from_here(Path(sys.argv[0])) if "/" in sys.argv[0] else sys.argv[0]


def from_here(path: Path) -> str:
    """Return a path below the working directory as relative, any other as absolute.

    The folder's links are followed, since a checkout has the packages at its root; that of a program is not, since a
    virtual environment may be one.
    """
    full, here = Path.cwd() / path, Path.cwd()
    resolved = full.resolve() if path.suffix == ".json" else full
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) else str(resolved)
