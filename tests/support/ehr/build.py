"""The FHIR server of the tests, built once by Maven and javac and kept between runs, outside the repository."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
SOURCE = Path(__file__).parent / "src" / "main" / "java" / "ehr" / "Ehr.java"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fhirline-tests" / "ehr"
"""300 MB of jars: one copy serves all work trees of a user."""

MINUTES = 15


class Unavailable(Exception):
    """The FHIR server cannot be had on this machine; the message says what is missing."""


def classpath() -> str:
    """Return the class path of the server that ``pom.xml`` and ``Ehr.java`` define; build it if it is not there."""
    jars = _kept(POM, "lib", _copy_jars)
    classes = _kept(SOURCE, "classes", lambda output: _compile(jars, output), jars.name)
    return f"{classes}{os.pathsep}{jars / '*'}"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"no {name} on the PATH, which the FHIR server of the tests needs (Java 17, Maven)")
    return found


def _kept(made_from: Path, kind: str, make: Callable[[Path], None], also: str = "") -> Path:
    """Return a folder of the cache, and have ``make`` write it if it is not there.

    Two test runs may ask at once: one builds, the other waits for the lock. A folder appears under its final name only
    when it is complete, and its name is the digest of what it is made from: another version is another folder.
    """
    digest = hashlib.sha256(made_from.read_bytes() + also.encode()).hexdigest()[:16]
    folder = CACHE / f"{kind}-{digest}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as made:
                make(Path(made) / kind)
                os.rename(Path(made) / kind, folder)
    return folder


def _copy_jars(output: Path) -> None:
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={output}", "-DincludeScope=runtime")
    _run(program("mvn"), "-B", "-q", "-f", str(POM), *goal)
    if not any(output.glob("hapi-fhir-jpaserver-base-*.jar")):
        raise Unavailable("mvn ended without the jars of the FHIR server")


def _compile(jars: Path, output: Path) -> None:
    _run(program("javac"), "-nowarn", "-parameters", "-d", str(output), "-cp", str(jars / "*"), str(SOURCE))


def _run(*command: str) -> None:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MINUTES * 60, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{name} did not build the FHIR server within {MINUTES} minutes") from None
    if done.returncode:
        raise Unavailable(f"{name} could not build the FHIR server:\n{(done.stdout + done.stderr)[-2000:]}")
