"""The oracles' npm packages, installed once into ``.cache/oracles`` and kept between runs."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.paths import ROOT

MANIFESTS = tuple(Path(__file__).with_name(name) for name in ("package.json", "package-lock.json"))
CACHE = ROOT / ".cache" / "oracles"
MINUTES = 10


class Unavailable(Exception):
    """The oracles cannot be had on this machine; the message says what is missing."""


def unavailable(reason: object) -> NoReturn:
    """Skip where the oracles cannot be had; fail in CI, where that would go unseen."""
    if os.environ.get("CI"):
        pytest.fail(f"the oracles are needed in CI: {reason}", pytrace=False)
    pytest.skip(f"no oracles here: {reason}")


def node_modules() -> Path:
    """The folder of the packages that ``package-lock.json`` names; npm makes it if it is not there.

    As with Apache Kafka's jars (`tests.support.kafka.jars`): one of two runs installs, the other waits for the lock,
    and the folder appears whole under a name that says its content. The lock file names no registry:
    the machine's own is used.
    """
    packages = CACHE / hashlib.sha256(b"".join(path.read_bytes() for path in MANIFESTS)).hexdigest()[:16]
    if shutil.which("node") is None:
        raise Unavailable("no node on the PATH, which runs the oracles")
    if not packages.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not packages.is_dir():
                _install(packages)
    return packages / "node_modules"


def _install(packages: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("no npm on the PATH, which gets the oracles")
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        folder = Path(made) / "packages"
        folder.mkdir()
        for manifest in MANIFESTS:
            shutil.copy(manifest, folder)
        # Medplum asks for a newer Node than it needs for validating, which is no reason to refuse.
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--engine-strict=false", "--loglevel=error")
        patience = ("--prefer-offline", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
        try:
            done = subprocess.run(
                [npm, "ci", *options, *patience],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=MINUTES * 60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"npm did not get the oracles within {MINUTES} minutes") from None
        if done.returncode or not (folder / "node_modules").is_dir():
            raise Unavailable(f"npm could not get the oracles:\n{(done.stdout + done.stderr)[-2000:]}")
        os.rename(folder, packages)
