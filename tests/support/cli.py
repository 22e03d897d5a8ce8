"""Run ``fhirline`` commands as processes of their own that need no second for their imports.

A server process (`tests.support.cli_server`), one for all processes of pytest-xdist, has imported what commands import.
It forks one process for each command, which gets the command's environment, folder, umask and files, and ends as any
other. A command that needs a terminal, or whose start or memory is tested, is started by ``subprocess`` instead.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO

from tests.support.paths import ROOT
from tests.support.waiting import LIMIT

SOCKET = "TESTS_CLI_SERVER"
"""The variable with the path of the server's socket, which the processes of pytest-xdist inherit."""


class Forked:
    """A running command, with what tests use of a `subprocess.Popen`. ``files``: its three standard files.

    With ``code``, which is Python, that is run instead of a command.
    """

    def __init__(
        self,
        *arguments: str | Path,
        files: Sequence[int],
        env: Mapping[str, str],
        cwd: str | Path = "/",
        umask: int = -1,
        new_session: bool = False,
        code: str = "",
    ) -> None:
        self.args = ["-c", code] if code else ["fhirline", *map(str, arguments)]
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        request = {"argv": self.args, "env": dict(env), "cwd": str(cwd), "umask": umask, "new_session": new_session}
        self._ended = Lock()
        self._answer, answers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with answers:
            socket.send_fds(_server(), [json.dumps(request).encode()], [*files, answers.fileno()])
        self.pid = self._received()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the command runs."""
        with self._ended:
            if self.returncode is None and select.select([self._answer], [], [], 0)[0]:
                self.returncode = self._received()
                self._answer.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code. Raises subprocess.TimeoutExpired."""
        with self._ended:
            answer = [] if self.returncode is not None else [self._answer.dup()]
        try:
            if answer and not select.select(answer, [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        finally:
            for item in answer:
                item.close()
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _received(self) -> int:
        message = self._answer.recv(64)
        assert message, "the server of the commands has ended"
        return int(message)


def piped(
    *arguments: str, env: Mapping[str, str], cwd: str | Path, of: Sequence[int] = (1, 2), new_session: bool = False
) -> Forked:
    """Start a command whose standard files ``of`` are read from its ``stdout``. The others lead nowhere."""
    read, write = os.pipe()
    with open(os.devnull, "r+b") as null:
        files = [write if number in of else null.fileno() for number in range(3)]
        try:
            command = Forked(*arguments, files=files, env=env, cwd=cwd, new_session=new_session)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
    command.stdout = open(read, encoding="utf-8", errors="replace")  # noqa: SIM115  # as long as the command is read
    return command


def run(
    *arguments: str | Path, env: Mapping[str, str], cwd: str | Path = "/", stdin: str | bytes = b"", umask: int = -1
) -> "subprocess.CompletedProcess[str]":
    """Run ``fhirline`` with ``arguments`` to its end. ``cwd``: the root has no ``.env`` of a developer's. A negative
    ``umask`` leaves it as it is.

    Raises subprocess.TimeoutExpired after `LIMIT` seconds, once the process is killed.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode() if isinstance(stdin, str) else stdin)
        given.seek(0)
        files = [given.fileno(), out.fileno(), err.fileno()]
        command = Forked(*arguments, files=files, env=env, cwd=cwd, umask=umask)
        try:
            code = command.wait(LIMIT)
        except subprocess.TimeoutExpired:
            command.kill()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command.args, code, out.read().decode(), err.read().decode())


@cache
def _server() -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.connect(os.environ[SOCKET])
    return server


@contextmanager
def running_server() -> Iterator[None]:
    """Start the server. It imports nothing before its first command, and ends with this process at the latest."""
    with tempfile.TemporaryDirectory(prefix="fhirline-cli-") as folder:
        path = os.path.join(folder, "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as requests:
            requests.bind(path)
            server = subprocess.Popen(
                [sys.executable, "-m", "tests.support.cli_server", str(requests.fileno())],
                cwd=ROOT,
                pass_fds=[requests.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # no terminal, on which a line would be printed at once
            )
        os.environ[SOCKET] = path
        try:
            yield
        finally:
            del os.environ[SOCKET]
            assert server.stdin is not None
            server.stdin.close()
            server.wait(LIMIT)
