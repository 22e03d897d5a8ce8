"""Broker, topics, gateway and worker as processes, started in order and stopped together."""

import os
import secrets
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

from fhirline.config.errors import FhirlineError
from fhirline.config.own_command import own_command
from fhirline.config.settings import PREFIX, Settings, load_settings
from fhirline.config.vendors import DEFAULT_TENANT, load_vendors
from fhirline.mappers.registry import VENDORS
from fhirline.streams.demo.borrowed_cluster import BASE, BorrowedCluster
from fhirline.streams.demo.embedded_broker import BrokerDied, EmbeddedBroker
from fhirline.streams.demo.environment import own_secrets, write_variables
from fhirline.streams.kafka import embedded_quirks
from fhirline.streams.observe.interrupt import ENDING, held_back, ignored

START_SECONDS = 120.0
STOP_SECONDS = 60.0
"""Limits for a process that hangs. One that has ended is noticed at once, and a busy machine needs its time."""


class StackFailed(FhirlineError):
    """A process of the stack ended, or did not start. The message names it and contains its last lines."""


class Process:
    """A ``fhirline`` command as a process. `wait_for` waits for its log lines by event name."""

    def __init__(self, name: str, *arguments: str, environment: Mapping[str, str], echo: Callable[[str], None]) -> None:
        self.name = name
        self._lines: deque[str] = deque(maxlen=50)
        self._events: dict[str, dict[str, Any]] = {}
        self._all_read = False  # the process has ended, or has closed its output
        self._changed = threading.Condition()
        self._echo = echo
        self._process = self._started(arguments, environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _started(self, arguments: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            own_command(*arguments),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the stack only, which ends its processes in order
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._echo(f"{self.name}: {line.rstrip()}")  # before anybody who waits for the line goes on
            with self._changed:
                self._lines.append(line.rstrip())
                if event := _log_event(line):
                    self._events[event["event"]] = event
                self._changed.notify_all()
        with self._changed:
            self._all_read = True
            self._changed.notify_all()

    def wait_for(self, event: str, timeout: float = START_SECONDS) -> dict[str, Any]:
        """Wait for a log line of ``event`` and return it. Raises StackFailed where the process ends or time is up."""

        def arrived_or_over() -> bool:
            return event in self._events or self._all_read

        with self._changed:
            self._changed.wait_for(arrived_or_over, timeout)
            if event in self._events:
                return self._events[event]
            closed = self._all_read
        code = self._code_once_closed() if closed else self.exit_code
        state = f"did not log {event!r} within {timeout:g} s"
        if code is not None:
            state = f"ended with exit code {code} before it logged {event!r}"
        raise StackFailed(self.report(state))

    def _code_once_closed(self) -> int | None:
        """Return the exit code of a process that has closed its output: it ends a moment later. None if it goes on."""
        try:
            return self.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def finish(self, timeout: float = START_SECONDS) -> None:
        """Wait for a command that ends by itself. Raises StackFailed unless it exits with 0."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.stop()
            raise StackFailed(self.report(f"did not end within {timeout:g} s")) from None
        if code:
            self._reader.join(STOP_SECONDS)
            raise StackFailed(self.report(f"ended with exit code {code}"))

    def report(self, what: str) -> str:
        return "\n".join([f"{self.name} {what}; its last lines:", *(f"  {line}" for line in list(self._lines)[-12:])])

    @property
    def running(self) -> bool:
        """Tell whether the process has not ended. Once it has, all its lines have been read."""
        if self._process.poll() is None:
            return True
        self._reader.join(STOP_SECONDS)
        return False

    @property
    def exit_code(self) -> int | None:
        return None if self.running else self._process.poll()

    def wait(self, timeout: float = START_SECONDS) -> int:
        """Wait for the end and return the exit code."""
        code = self._process.wait(timeout)
        self._reader.join(STOP_SECONDS)
        return code

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int | None:
        """Terminate the process, kill it if it does not end in time, and return the exit code."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(STOP_SECONDS)
        return self._process.poll()


class Stack:
    """A whole deployment on this machine; a context manager.

    It runs on the embedded broker, unless ``FHIRLINE_BOOTSTRAP`` names a cluster, which must not be in use
    (`BorrowedCluster`). ``say`` is called with each step, ``echo`` with each log line. Ctrl-C and SIGTERM do not
    interrupt the end of the stack.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        echo: Callable[[str], None] = lambda _: None,
        port: int = 0,
        kafka_port: int = 0,
    ) -> None:
        self._say = say
        self._echo = echo
        self._port = port
        self._kafka_port = kafka_port
        self._exit = ExitStack()
        self._servers: list[Process] = []
        self._environment: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self.own_secrets: dict[str, str] = {}
        """Vendors with a secret from the environment: vendor → variable. Such secrets are never printed."""
        self.environment_file = Path()
        """Variables with which other commands work on this stack, for a shell to read."""
        self.url = ""
        self.tenant = DEFAULT_TENANT
        self.settings: Settings = load_settings()
        self.embedded = "bootstrap" not in self.settings.model_fields_set

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        with ignored(*ENDING):
            self._exit.close()

    def _start(self) -> None:
        folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="fhirline-")))
        own = self._embedded_broker() if self.embedded else self._borrowed_cluster(folder)
        own |= {"replay_dir": folder / "replays"}  # a deployment's runs are none of this stack's
        own |= own_secrets(folder)
        self.settings = load_settings(**own)
        credentials = self._credentials()
        self._environment = {**os.environ, f"{PREFIX}LOG_FORMAT": "json", **credentials}
        self._environment |= {f"{PREFIX}{name.upper()}": str(value) for name, value in own.items()}
        if self.embedded:
            self.run("topics", "apply")
            self._say("topics       applied")
        worker = self._process("worker")
        gateway = self._process("gateway", "--port", str(self._port), "--port-file", str(folder / "port"))
        self._servers += [worker, gateway]
        self.url = gateway.wait_for("gateway listening")["url"]
        self._say(f"gateway      {self.url}")
        worker.wait_for("partitions assigned")
        self._say("worker       has its partitions")
        self.environment_file, made = folder / "environment", credentials.keys() - self.own_secrets.values()
        port = urlsplit(self.url).port or 0
        write_variables(self.environment_file, self.settings, self._environment, made, port)

    def _embedded_broker(self) -> dict[str, object]:
        """Start the embedded broker, and return the settings that lead to it."""
        try:
            with held_back(*ENDING):  # until the broker's end is registered
                broker = self._exit.enter_context(EmbeddedBroker(self._kafka_port))
        except BrokerDied as error:
            raise StackFailed(str(error)) from None
        self._say(f"Kafka        {broker.bootstrap} (embedded broker, in memory only)")
        return {"bootstrap": broker.bootstrap, "session_timeout": embedded_quirks.SESSION_TIMEOUT}

    def _borrowed_cluster(self, folder: Path) -> dict[str, object]:
        """Create the topics on the cluster of ``FHIRLINE_BOOTSTRAP``, and return the settings that are the run's own.

        Raises ConfigurationError where the cluster is in use.
        """
        self._say(f"Kafka        {self.settings.bootstrap} ({PREFIX}BOOTSTRAP)")
        cluster = self._exit.enter_context(BorrowedCluster(self.settings, self._say))
        self._say(f"topics       created, to be deleted at the end; group {cluster.group}, tenant {cluster.tenant}")
        self.tenant = cluster.tenant
        vendors_file = folder / "vendors.yaml"
        cluster.write_vendors(vendors_file)
        return {"group": cluster.group, "base": BASE, "server_base": BASE, "vendors_file": vendors_file}

    def start_console(self, port: int) -> str:
        """Start the console with a token of this run, and return the address that opens it. ``port``: 0 for any.

        On the embedded broker it may replay, too: on another cluster, shadow topics would stay after the run.
        """
        token = secrets.token_urlsafe(24)
        allowed = ["--allow", "redrive", *(["--allow", "replay"] if self.embedded else [])]
        process = self._process("console", "--port", str(port), *allowed, console_token=token)
        self._servers.append(process)
        return f"{process.wait_for('console listening')['url']}login?token={token}"

    def run(self, *arguments: str, **settings: str) -> None:
        """Run a command of fhirline to its end. ``settings``: its own, beside those of the run, by field name.

        Raises StackFailed unless it exits with 0. Its output is shown only then.
        """
        self._process(*arguments, echo=lambda _: None, **settings).finish()

    def _process(self, *arguments: str, echo: Callable[[str], None] | None = None, **settings: str) -> Process:
        own = {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
        with held_back(*ENDING):  # until the process's end is registered
            process = Process(arguments[0], *arguments, environment=self._environment | own, echo=echo or self._echo)
            self._exit.callback(process.stop)
        return process

    def _credentials(self) -> dict[str, str]:
        """Return each vendor's secret: that of the environment, else a new one for this run."""
        made = {}
        for vendor in VENDORS:
            credential = load_vendors(self.settings.vendors_file)[vendor].defaults.credential
            if credential is not None:
                name = credential.secrets[0]
                made[name] = os.environ.get(name) or secrets.token_urlsafe(24)
                self.secrets[vendor] = made[name]
                if name in os.environ:
                    self.own_secrets[vendor] = name
        return made

    def header(self, vendor: str) -> dict[str, str]:
        """Return the HTTP header with the credential of ``vendor`` (static credentials)."""
        credential = load_vendors(self.settings.vendors_file)[vendor].defaults.credential
        return {credential.header: credential.prefix + self.secrets[vendor]} if credential else {}

    def check(self) -> None:
        """Raise StackFailed where a process that should be running has ended."""
        for process in self._servers:
            if not process.running:
                raise StackFailed(process.report("has ended"))


def _log_event(line: str) -> dict[str, Any] | None:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
