"""The process that forks one process for each ``fhirline`` command of `tests.support.cli`, and those of pytest-xdist.

It runs no command itself and has one thread, so each command begins as a new interpreter would that has imported the
same modules and read the packaged tables, of which none depends on settings or the environment.
"""

import atexit
import gc
import json
import os
import random
import select
import socket
import sys
import threading
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, NoReturn

import fhirline

NOT_OF_COMMANDS = ("fhirline.streams.authoring", "fhirline.streams.demo")
"""Packages that load what few commands use."""


def import_all() -> None:
    """Import all modules, map the demo's webhooks, and compile the console's pages.

    Mapping loads code tables, compiles the patterns of secrets and the validator's models: a quarter of a second, which
    each command would take again.
    """
    for module in walk_packages(fhirline.__path__, "fhirline."):
        if not module.name.startswith(NOT_OF_COMMANDS):
            import_module(module.name)
    from fhirline.mappers.api import normalize
    from fhirline.streams.console.parked import advices
    from fhirline.streams.console.rendering import TEMPLATES
    from fhirline.streams.console.views.dead_letters import codes
    from fhirline.streams.demo.webhooks import samples

    advices()
    codes()

    for sample in samples():
        normalize(sample.body, vendor=sample.vendor, event_type=sample.event if sample.route else None)
    for name in TEMPLATES.list_templates():
        TEMPLATES.get_template(name)


def serve(requests: socket.socket) -> bool:
    """Fork a process for each request. Return True in such a process, False in the server at the end of its input."""
    imported = False
    waiting: set[int] = set()
    while True:
        ended = sys.stdin in select.select([requests, sys.stdin], [], [])[0]
        waiting -= {pid for pid in waiting if os.waitpid(pid, os.WNOHANG)[0]}
        if ended:
            return False
        message, files, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not imported:
            import_all()
            gc.freeze()
            imported = True
        if (waits := os.fork()) == 0:
            requests.close()
            if (pid := os.fork()) == 0:
                become(json.loads(message), files)
                return True
            answer = socket.socket(fileno=files[3])
            answer.send(str(pid).encode())
            _, status = os.waitpid(pid, 0)
            answer.send(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        waiting.add(waits)
        for file in files:
            os.close(file)


def become(request: dict[str, Any], files: list[int]) -> None:
    """Take the files, environment, folder and arguments of a command."""
    for standard, file in enumerate(files[:3]):
        os.dup2(file, standard)
    for file in files:
        os.close(file)
    if request["new_session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    if request["umask"] >= 0:
        os.umask(request["umask"])
    sys.argv = request["argv"]
    random.seed()


def end(code: int) -> NoReturn:
    """End as an interpreter does, but leave the memory to the system.

    An interpreter clears all modules at its end. Here that would write to, and so copy, most of the memory that the
    process shares with the server, which costs more than most commands.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # joins the threads that are no daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    if serve(socket.socket(fileno=int(sys.argv[1]))):
        if sys.argv[0] == "-c":
            exec(sys.argv.pop(), {"__name__": "__main__"})
            end(0)
        from fhirline.streams.cli import main

        __package__ = ""  # the help would name this module
        try:
            main()
        except SystemExit as ended:
            if isinstance(ended.code, int):
                end(ended.code)
            raise
        end(0)
