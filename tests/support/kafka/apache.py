"""Apache Kafka itself, from its published jars, in KRaft mode: the broker that users run."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.kafka.class_archive import class_archive
from tests.support.kafka.jars import Unavailable, kafka_jars
from tests.support.kafka.secured import Security
from tests.support.waiting import LIMIT

HOST = "127.0.0.1"
JVM = ("-Xms64m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"


class NotStarted(RuntimeError):
    """A broker ended or did not answer; the message ends with what it printed."""


@dataclass
class Broker:
    """One broker, controller too. ``process`` is None while it is down."""

    id: int
    port: int
    controller_port: int
    home: Path
    directory_id: str
    secure_port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def printed(self) -> str:
        output = self.home / "output"
        return output.read_text(errors="replace")[-3000:] if output.exists() else ""


class ApacheKafka:
    """A cluster of one or three brokers on free ports, its data in a temporary folder; gone on exit.

    ``properties`` are added to every broker's. With ``security`` each has a listener of TLS and SASL besides, and ACLs.
    A broker that ends in order writes its classes to the file ``archived`` (`class_archive`).
    Entry returns when all brokers are members, by their own metadata::

        with ApacheKafka(brokers=3) as kafka:
            kafka.kill(2)      # SIGKILL; start(2) brings it back with its data
    """

    ATTEMPTS = 3

    def __init__(
        self,
        brokers: int = 1,
        timeout: float = LIMIT,
        properties: Mapping[str, str | int] | None = None,
        security: Security | None = None,
        archived: Path | None = None,
    ) -> None:
        self._count = brokers
        self._timeout = timeout
        self._properties = dict(properties or {})
        self._security = security
        self._archived = archived
        self._sharing: tuple[str, ...] = ()
        self._home: Path | None = None
        self._classpath = ""
        self._java = ""
        self.brokers: dict[int, Broker] = {}

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self.brokers.values())

    @property
    def secure_bootstrap(self) -> str:
        return ",".join(f"{HOST}:{broker.secure_port}" for broker in self.brokers.values())

    def pid(self, id: int = 1) -> int:
        process = self.brokers[id].process
        if process is None:
            raise NotStarted(f"broker {id} is not running")
        return process.pid

    def __enter__(self) -> "ApacheKafka":
        java = shutil.which("java")
        if java is None:
            raise Unavailable("no java on the PATH, which runs Apache Kafka")
        jars = kafka_jars()
        self._java, self._classpath = java, str(jars / "*")
        if self._archived is None:
            self._sharing = (f"-XX:SharedArchiveFile={class_archive(java, jars, archive_classes)}",)
        for left in reversed(range(self.ATTEMPTS)):  # a free port may be another's by the time a broker binds it
            try:
                self._create()
                for id in self.brokers:
                    self._launch(id)
                self.wait_for(self.brokers)
                break
            except NotStarted:
                self.close()
                if not left:
                    raise
            except BaseException:  # Ctrl-C while it starts: leave nothing behind
                self.close()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self, id: int) -> None:
        """Start a broker that was stopped or killed, and wait until it is a member again."""
        self._launch(id)
        self.wait_for(broker.id for broker in self.brokers.values() if broker.running)

    def stop(self, id: int) -> None:
        """End a broker in order (SIGTERM): it hands its partitions over first."""
        self._end(id, signal.SIGTERM)

    def kill(self, id: int) -> None:
        """End a broker at once (SIGKILL)."""
        self._end(id, signal.SIGKILL)

    def close(self) -> None:
        """End every broker and delete its data, which nobody needs any more: hence no orderly end."""
        for broker in self.brokers.values():
            if broker.process is not None:
                broker.process.kill()
        for broker in self.brokers.values():
            if broker.process is not None:
                broker.process.wait()
        self.brokers = {}
        if self._home is not None:
            shutil.rmtree(self._home)
            self._home = None

    def wait_for(self, ids: Iterable[int]) -> None:
        """Wait until the cluster's metadata, asked of any broker, names exactly these brokers."""
        wanted = set(ids)
        running = [broker for broker in self.brokers.values() if broker.running]
        until = time.monotonic() + self._timeout
        client = AdminClient({"bootstrap.servers": ",".join(b.address for b in running), "log_level": 0})
        while time.monotonic() < until:
            for broker in running:
                if not broker.running:
                    raise NotStarted(f"broker {broker.id} ended:\n{broker.printed()}")
            try:
                if client.list_topics(timeout=1).brokers.keys() == wanted:
                    return
            except KafkaException:
                continue
        raise NotStarted(f"no cluster within {self._timeout:g} s:\n" + "\n".join(b.printed() for b in running))

    def _create(self) -> None:
        """Write each broker's server.properties and format its storage."""
        self._home = Path(tempfile.mkdtemp(prefix="fhirline-kafka-"))
        ports = free_ports(3 * self._count)
        for id in range(1, self._count + 1):
            home = self._home / str(id)
            home.mkdir()
            self.brokers[id] = Broker(id, ports.pop(), ports.pop(), home, kafka_uuid(), ports.pop())
        users: list[str] = []
        if self._security is not None:
            self._security.make_certificates()
            users = self._security.format_arguments()
        cluster = kafka_uuid()
        formatting = []
        for broker in self.brokers.values():
            properties = server_properties(broker, self.brokers.values()) | self._secured(broker) | self._properties
            (broker.home / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in properties.items()))
            voters = ",".join(f"{b.id}@{HOST}:{b.controller_port}:{b.directory_id}" for b in self.brokers.values())
            formatting.append(
                self._run(
                    broker,
                    "kafka.tools.StorageTool",
                    *("format", "-t", cluster, "-c", str(broker.home / "server.properties")),
                    *(("--standalone",) if self._count == 1 else ("--initial-controllers", voters)),
                    *users,
                )
            )
        for broker, process in zip(self.brokers.values(), formatting, strict=True):
            if process.wait(self._timeout):
                raise NotStarted(f"formatting broker {broker.id} failed:\n{broker.printed()}")

    def _secured(self, broker: Broker) -> dict[str, str | int]:
        if self._security is None:
            return {}
        listener = f"SECURE://{HOST}:{broker.secure_port}"
        plain = server_properties(broker, self.brokers.values())
        return {
            "listeners": f"{plain['listeners']},{listener}",
            "advertised.listeners": f"{plain['advertised.listeners']},{listener}",
            "listener.security.protocol.map": f"{plain['listener.security.protocol.map']},SECURE:SASL_SSL",
            **self._security.properties(),
        }

    def _launch(self, id: int) -> None:
        broker = self.brokers[id]
        if broker.running:
            raise NotStarted(f"broker {id} is running already")
        writing = () if self._archived is None else (f"-XX:ArchiveClassesAtExit={self._archived}",)
        broker.process = self._run(broker, *writing, "kafka.Kafka", str(broker.home / "server.properties"))

    def _run(self, broker: Broker, *arguments: str) -> subprocess.Popen[bytes]:
        with (broker.home / "output").open("ab") as output:
            return subprocess.Popen(
                [self._java, *JVM, *self._sharing, QUIET, "-cp", self._classpath, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=broker.home,
                process_group=0,  # Ctrl-C reaches the tests, which end it
            )

    def _end(self, id: int, by: signal.Signals) -> None:
        broker = self.brokers[id]
        if broker.process is not None:
            broker.process.send_signal(by)
            broker.process.wait(self._timeout)
            broker.process = None


def archive_classes(file: Path) -> None:
    """Write the classes of a broker that has created a topic to ``file``."""
    with ApacheKafka(archived=file) as kafka:
        client = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        client.create_topics([NewTopic("archived", 1, 1)])["archived"].result(LIMIT)
        kafka.stop(1)


def server_properties(broker: Broker, cluster: Iterable[Broker]) -> dict[str, str | int]:
    """server.properties of a broker that is controller too; replicas of Kafka's own topics as many as brokers allow."""
    brokers = list(cluster)
    replicas = min(3, len(brokers))
    return {
        "process.roles": "broker,controller",
        "node.id": broker.id,
        "controller.quorum.bootstrap.servers": ",".join(f"{HOST}:{b.controller_port}" for b in brokers),
        "listeners": f"PLAINTEXT://{broker.address},CONTROLLER://{HOST}:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{broker.address},CONTROLLER://{HOST}:{broker.controller_port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(broker.home / "data"),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 3,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": min(2, replicas),
        "transaction.state.log.num.partitions": 3,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": min(2, replicas),
        "min.insync.replicas": min(2, replicas),
    }


def kafka_uuid() -> str:
    """A random id in Kafka's form: 22 characters of URL-safe base64, the first no dash (arguments start so)."""
    while (text := urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago, all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
