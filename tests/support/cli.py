"""Run ``fhirline`` commands to their end, as processes of their own that need no second for their imports.

A server process (`tests.support.cli_server`) has imported what commands import. It forks one process for each command,
which gets the command's environment, folder, umask and files, and ends as any other. A command that a test must signal
while it runs, or that needs a terminal, is started by `tests.support.processes` or by ``subprocess`` instead.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from signal import SIGKILL
from typing import Any

from tests.support.paths import ROOT
from tests.support.waiting import LIMIT


def run(
    *arguments: str | Path, env: Mapping[str, str], cwd: str | Path = "/", stdin: str | bytes = b"", umask: int = -1
) -> "subprocess.CompletedProcess[str]":
    """Run ``fhirline`` with ``arguments``. ``cwd``: the root has no ``.env`` of a developer's. A negative ``umask``
    leaves it as it is.

    Raises subprocess.TimeoutExpired after `LIMIT` seconds, once the process is killed.
    """
    command = ["fhirline", *map(str, arguments)]
    request = {"argv": command, "env": dict(env), "cwd": str(cwd), "umask": umask}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode() if isinstance(stdin, str) else stdin)
        given.seek(0)
        answer, answers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with answer:
            with answers:
                files = [given.fileno(), out.fileno(), err.fileno(), answers.fileno()]
                socket.send_fds(_server(os.getpid()), [json.dumps(request).encode()], files)
            pid = _received(answer)
            answer.settimeout(LIMIT)
            try:
                code = _received(answer)
            except TimeoutError:
                os.kill(pid, SIGKILL)
                raise subprocess.TimeoutExpired(command, LIMIT) from None
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read().decode(), err.read().decode())


def _received(answer: socket.socket) -> int:
    message = answer.recv(64)
    assert message, "the server of the commands has ended"
    return int(message)


@cache
def _server(pid: int) -> socket.socket:
    """Start the server of this process. It ends when the socket is closed, at the latest with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        module: list[Any] = [sys.executable, "-m", "tests.support.cli_server", str(theirs.fileno())]
        server = subprocess.Popen(module, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        server.wait(LIMIT)

    atexit.register(end)
    return ours
