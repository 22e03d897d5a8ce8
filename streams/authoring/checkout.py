"""The checkout of the repository that a vendor is written into, and the tools that work on it."""

import keyword
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.config.settings import PREFIX

REGISTRY = "mappers/registry.py"
VENDORS_FILE = "config/vendors.yaml"
SPECIFICATION = "docs/design/mapping.md"
README = "README.md"
SETTINGS = "docs/settings.md"
CONTRACT = "docs/asyncapi.yaml"

TOOLS = ("genson", "pytest", "ruff")
"""Packages of the extra ``dev`` that writing a vendor needs."""

_NAME = re.compile(r"[a-z][a-z0-9]{1,31}", re.ASCII)
_DECLARED = re.compile(r"^VENDORS = \((?P<names>[^)]*)\)", re.M)
_RESERVED = frozenset({"all", "event", "vendor"})


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of the repository. ``root`` is its top folder."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> "Checkout":
        """Find the checkout that a folder lies in; raise ConfigurationError where there is none."""
        for candidate in (folder, *folder.parents):
            if all((candidate / item).is_file() for item in (REGISTRY, VENDORS_FILE, "pyproject.toml")):
                return cls(candidate)
        raise ConfigurationError(
            f"{folder} is in no checkout of fhirline (no {REGISTRY} and {VENDORS_FILE} above it): "
            "clone the repository and run this command in it"
        )

    def read(self, path: str) -> str:
        """Return a file's text; ``""`` where there is no such file."""
        file = self.root / path
        return file.read_text("utf-8") if file.is_file() else ""

    def vendors(self) -> list[str]:
        """Return the names of the vendors that the registry lists."""
        found = _DECLARED.search(self.read(REGISTRY))
        if found is None:
            raise ConfigurationError(f"{REGISTRY}: no line begins with VENDORS = (")
        return re.findall(r'"(\w+)"', found["names"])

    def check_name(self, name: str) -> None:
        """Raise ConfigurationError unless a new vendor can have this name."""
        if keyword.iskeyword(name) or name in _RESERVED:
            raise ConfigurationError(f"NAME: {name!r} cannot name a vendor: the code uses this word; use another one")
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"NAME: {name!r} cannot name a vendor; use 2 to 32 lower-case letters and digits, a letter first"
            )
        taken = [name] if name in self.vendors() else []
        places = (f"mappers/{name}", f"mappers/{name}.py", f"tests/golden/{name}", f"tests/mappers/test_{name}.py")
        taken += [place for place in places if _exists(self.root / place)]
        if taken:
            raise ConfigurationError(f"NAME: {name!r} is taken: {taken[0]} exists already, and nothing is overwritten")

    def registry_with(self, name: str) -> str:
        """Return the registry's text with one more vendor."""
        names = ", ".join(f'"{vendor}"' for vendor in sorted([*self.vendors(), name]))
        return _DECLARED.sub(f"VENDORS = ({names})", self.read(REGISTRY))

    def run(self, *arguments: str, folder: Path | None = None, stdin: str | None = None) -> str:
        """Run a Python module on the checkout's own code and return what it printed.

        The settings of the environment are left out. Raises ConfigurationError with the output where it fails.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PYTEST_"))}
        environment["PYTHONPATH"] = os.pathsep.join([str(self.root / "src"), str(self.root)])
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder or self.root,
            env=environment,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ConfigurationError(f"{' '.join(arguments)[:100]} failed:\n{done.stdout}{done.stderr}".rstrip())
        return done.stdout

    def formatted(self, path: str, code: str) -> str:
        """Sort and prune the imports of a Python module, and format it, by the project's rules.

        Ruff looks for packages on disk, where the new one does not exist yet.
        """
        rules = ("--select", "I,F401", "--fix", "--quiet", "--config", "lint.isort.known-first-party = ['fhirline']")
        pruned = self.run("-m", "ruff", "check", *rules, "--stdin-filename", path, "-", stdin=code)
        return self.run("-m", "ruff", "format", "--quiet", "--stdin-filename", path, "-", stdin=pruned)


def _exists(path: Path) -> bool:
    """Tell whether there is a file, or a folder with files. Bytecode that Git left behind does not count."""
    if not path.is_dir():
        return path.exists()
    return any(file.is_file() and file.parent.name != "__pycache__" for file in path.rglob("*"))


def check_tools() -> None:
    """Raise ConfigurationError unless the tools of the extra ``dev`` are installed."""
    if missing := [name for name in TOOLS if find_spec(name) is None]:
        raise ConfigurationError(
            f"{' and '.join(missing)} not installed, of the extra dev; run: "
            f"{sys.executable} -m pip install --require-hashes -r requirements/dev.lock"
        )
