"""A FHIR server: HAPI FHIR JPA R4 on H2, as integrators run it (`Ehr.java` is all there is of our own)."""

import http.client
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from tests.support.ehr.build import classpath, program
from tests.support.kafka.apache import HOST, free_ports
from tests.support.waiting import LIMIT

JVM = (f"-Xmx{os.environ.get('EHR_MEMORY') or '1500m'}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
WITHOUT = (
    "elasticsearch.ElasticsearchRestClientAutoConfiguration",
    "thymeleaf.ThymeleafAutoConfiguration",
    "quartz.QuartzAutoConfiguration",
    "batch.BatchAutoConfiguration",
)
"""What Spring Boot would configure because of a jar on the class path."""

Resource = dict[str, Any]


class NotStarted(RuntimeError):
    """The server ended or did not answer; the message ends with what it printed."""


@dataclass(frozen=True)
class Answer:
    """An answer of the server. ``body`` is empty where it sent none."""

    status: int
    headers: dict[str, str]
    body: Resource


class EhrServer:
    """One server on a free port of 127.0.0.1; gone, with its data, on exit. Ready in about 25 s, with up to 1 GB.

    ``switches`` are those of `Ehr.java`: ``refint``, ``validate``, ``contained``, ``placeholders``, ``external``,
    ``retry``, ``multidelete``, ``delete``, ``expunge``, ``history``, ``source`` (true or false), ``clientid``
    ("ALPHANUMERIC" or "ANY"), ``tags`` ("VERSIONED", "NON_VERSIONED", "INLINE"), ``entries`` (most of a transaction).
    Its data is in memory and
    goes with the process, unless ``durable``: then `restart` and `kill` with `start` bring it back with all that it
    has answered 2xx to, at the same address::

        with EhrServer(validate=True) as server:
            server.send("POST", "", bundle).status
    """

    ATTEMPTS = 3

    def __init__(self, durable: bool = False, **switches: bool | str) -> None:
        self._durable = durable
        self._switches = switches
        self._home: Path | None = None
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        return f"http://{HOST}:{self._port}/fhir"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> "EhrServer":
        for left in reversed(range(self.ATTEMPTS)):  # a free port may be another's by the time the server binds it
            self._home = Path(tempfile.mkdtemp(prefix="fhirline-ehr-"))
            self._port = free_ports(1)[0]
            try:
                self.start()
                break
            except NotStarted:
                self.stop()
                if not left:
                    raise
            except BaseException:  # Ctrl-C while it starts: leave nothing behind
                self.stop()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers ``GET /metadata``."""
        if self.running:
            raise NotStarted("the server is running already")
        self._launch()
        until = time.monotonic() + LIMIT
        while not self._ready():
            if not self.running:
                raise NotStarted(f"the FHIR server ended:\n{self.printed()}")
            if time.monotonic() > until:
                raise NotStarted(f"the FHIR server did not answer within {LIMIT:g} s:\n{self.printed()}")
            time.sleep(0.1)

    def restart(self) -> None:
        """End the server in order (SIGTERM) and start it again at the same address: empty, unless ``durable``."""
        self.terminate()
        self.start()

    def terminate(self) -> None:
        """End the server in order (SIGTERM); `start` begins it again."""
        if self._process is not None:
            self._process.terminate()
            self._ended(self._process)

    def kill(self) -> None:
        """End the server at once (SIGKILL); `start` begins it again."""
        if self._process is not None:
            self._process.kill()
            self._ended(self._process)

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        process.wait(LIMIT)
        assert process.stdin is not None
        process.stdin.close()
        self._process = None

    def stop(self) -> None:
        """End the server and delete its data, which nobody needs any more: hence no orderly end."""
        self.kill()
        if self._home is not None:
            shutil.rmtree(self._home)
            self._home = None

    def clear(self) -> None:
        """Remove every resource and its history; milliseconds, where a start takes seconds."""
        everything = {"name": "expungeEverything", "valueBoolean": True}
        answer = self.send("POST", "$expunge", {"resourceType": "Parameters", "parameter": [everything]})
        assert answer.status == 200, answer

    def send(self, method: str, path: str, body: Resource | None = None, **headers: str) -> Answer:
        """Send one request to ``base/path`` and return the answer, whatever its status."""
        request = urllib.request.Request(
            f"{self.base}/{path}".rstrip("/"),
            data=None if body is None else orjson.dumps(body),
            headers={"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"} | headers,
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as response:
                return Answer(response.status, dict(response.headers), orjson.loads(response.read() or b"{}"))
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), orjson.loads(error.read() or b"{}"))

    def printed(self) -> str:
        """Return the end of what the server printed."""
        output = self._home / "output" if self._home else None
        return output.read_text(errors="replace")[-3000:] if output and output.exists() else ""

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base}/metadata", timeout=LIMIT) as response:
                return bool(response.status == 200)
        except (OSError, http.client.HTTPException):
            return False

    def _launch(self) -> None:
        assert self._home is not None
        database = f"file:{self._home / 'ehr'};WRITE_DELAY=0" if self._durable else "mem:ehr;DB_CLOSE_DELAY=-1"
        properties = {
            "server.address": HOST,
            "server.port": str(self._port),
            "spring.datasource.url": f"jdbc:h2:{database};DEFAULT_LOCK_TIMEOUT=10000",
            "spring.datasource.username": "sa",
            "spring.datasource.hikari.maximum-pool-size": "20",
            "spring.main.allow-circular-references": "true",
            "spring.main.allow-bean-definition-overriding": "true",
            "spring.autoconfigure.exclude": ",".join(f"org.springframework.boot.autoconfigure.{n}" for n in WITHOUT),
            "logging.level.root": "WARN",
            "java.io.tmpdir": str(self._home),
        } | {
            f"ehr.{name}": str(value).lower() if value in (True, False) else str(value)
            for name, value in self._switches.items()
        }
        command = [
            program("java"),
            *JVM,
            *(f"-D{name}={value}" for name, value in properties.items()),
            *("-cp", classpath(), "ehr.Ehr"),
        ]
        with (self._home / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # closes with this process, even where it is killed: then the server ends
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                process_group=0,  # Ctrl-C reaches the tests, which end it
            )
