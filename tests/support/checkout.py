"""A copy of the repository, in which a test may add a vendor and run what a developer would run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fhirline.config.settings import PREFIX
from tests.support.paths import ROOT

FOLDERS = ("benchmarks", "config", "docs", "mappers", "requirements", "src", "streams", "tests", "topics")
FILES = (".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "README.md", "SECURITY.md", "pyproject.toml")


def copied(target: Path, *left_out: str) -> Path:
    """Copy the repository to a folder, except files and folders of the names that are ``left_out``."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "node_modules", *left_out)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=ignore, symlinks=True)
    for name in FILES:
        shutil.copy(ROOT / name, target)
    return target


def run_in(tree: Path, command: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run a shell command in a copy, on the copy's code, without the settings of the environment.

    Standard error is part of ``stdout``.
    """
    left_out = (PREFIX, "PYTEST_", "PYTHONDONTWRITEBYTECODE")  # each command would compile the copy's modules again
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tree,
        env={**kept, "PATH": path, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def printed(tree: Path, command: str, timeout: float = 120) -> str:
    """Return what a command prints in a copy; it must succeed."""
    done = run_in(tree, command, timeout)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout
