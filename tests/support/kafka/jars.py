"""Apache Kafka's published jars, copied once into ``.cache/kafka`` and kept between runs."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.paths import ROOT

POM = Path(__file__).with_name("pom.xml")
CACHE = ROOT / ".cache" / "kafka"


class Unavailable(Exception):
    """Apache Kafka cannot be had on this machine; the message says what is missing."""


def kafka_jars(pom: Path = POM) -> Path:
    """The folder of the jars that ``pom`` names; Maven makes it if it is not there.

    Two test runs may ask at once: one builds, the other waits for the lock. A folder appears under its final name only
    when it is complete, and its name is the pom's content: another version is another folder.
    """
    jars = CACHE / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    if jars.is_dir():
        return jars
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            _copy(pom, jars)
    return jars


def _copy(pom: Path, jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("no mvn on the PATH, which gets Apache Kafka's jars")
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        output = Path(made) / "jars"
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={output}", "-DincludeScope=runtime")
        try:
            done = subprocess.run(
                [maven, "-B", "-q", "-f", str(pom), *goal],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable("mvn did not get Apache Kafka's jars within 15 minutes") from None
        if done.returncode or not any(output.glob("kafka*.jar")):
            raise Unavailable(f"mvn could not get Apache Kafka's jars:\n{(done.stdout + done.stderr)[-2000:]}")
        os.rename(output, jars)
