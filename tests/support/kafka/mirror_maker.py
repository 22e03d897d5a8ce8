"""Apache Kafka's MirrorMaker 2 itself, from its published jars, with the properties of the runbook."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.kafka.apache import JVM
from tests.support.kafka.jars import Unavailable, kafka_jars
from tests.support.waiting import LIMIT

POM = Path(__file__).with_name("mirror_maker.pom.xml")
LOG = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class MirrorMaker:
    """A running process. `output`: what it printed."""

    def __init__(self, process: "subprocess.Popen[bytes]", printed: Path) -> None:
        self._process = process
        self._printed = printed

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return self._printed.read_text(errors="replace")[-5_000:]


@contextmanager
def mirroring(properties: str, servers: Mapping[str, str]) -> Iterator[MirrorMaker]:
    """Run it until the context ends. ``servers``: name of a cluster in the properties → its bootstrap servers.

    Raises Unavailable.
    """
    java = shutil.which("java")
    if java is None:
        raise Unavailable("no java on the PATH, which runs MirrorMaker")
    jars = kafka_jars(POM)
    given = dict(line.partition(" = ")[::2] for line in properties.splitlines() if line and not line.startswith("#"))
    given |= {f"{name}.bootstrap.servers": address for name, address in servers.items()}
    with tempfile.TemporaryDirectory(prefix="fhirline-mirror-") as made:
        file, printed = Path(made) / "mirror.properties", Path(made) / "output"
        file.write_text("".join(f"{name} = {value}\n" for name, value in given.items()))
        with printed.open("wb") as output:
            process = subprocess.Popen(
                [java, *JVM, LOG, "-cp", str(jars / "*"), "org.apache.kafka.connect.mirror.MirrorMaker", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C reaches the tests, which end it
            )
        try:
            yield MirrorMaker(process, printed)
        finally:
            process.kill()  # its orderly end takes longer than a minute where a cluster is gone
            process.wait(LIMIT)
