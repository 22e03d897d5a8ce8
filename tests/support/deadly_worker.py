"""``fhirline worker`` with a mapping that ends its process over certain events: run it with one of `DEATHS`.

An event is deadly where its body contains `DEADLY`.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fhirline.mappers import registry
from fhirline.mappers.context import Context
from fhirline.mappers.pipeline import normalize
from fhirline.mappers.results import MappingResult
from fhirline.streams.cli import main
from tests.support.memory import peak_memory

DEADLY = "kills its worker"


def killed() -> None:
    """End the process as the kernel ends one that has taken all memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def eats_memory() -> None:
    """Take memory until the process is ended, as a container's limit would end it."""
    taken = []
    while peak_memory() < 1_024:  # a container of 1 GiB
        taken.append(bytearray(16 * 1024 * 1024))
    killed()


def fills_the_container() -> None:
    """Take memory without end. The kernel ends the process where it has a limit."""
    taken = []
    while True:
        taken.append(bytearray(16 * 1024 * 1024))


def loops() -> None:
    """Never return, but let other threads run."""
    while True:
        time.sleep(0.01)


def holds_the_lock() -> None:
    """Never return, and never release the interpreter's lock."""
    re.match(r"(a*)*b", "a" * 100)


DEATHS: dict[str, Callable[[], None]] = {
    "killed": killed,
    "eats memory": eats_memory,
    "loops": loops,
    "holds the lock": holds_the_lock,
}


IN_A_CONTAINER: dict[str, Callable[[], None]] = {"fills the container": fills_the_container}
"""Only for a process with a limit of its memory, `tests.support.memory.limited`."""


def deadly(mapping: registry.EventMapping, death: Callable[[], None]) -> registry.EventMapping:
    def map_or_die(model: Any, context: Context) -> MappingResult:
        if DEADLY in repr(context.envelope.body):
            death()
        return mapping.map(model, context)

    return replace(mapping, map=map_or_die)


if __name__ == "__main__":
    death = {**DEATHS, **IN_A_CONTAINER}[sys.argv[1]]
    declared = registry.vendor_mapping("mediquo")
    events = {name: deadly(mapping, death) for name, mapping in declared.events.items()}
    patched = replace(declared, events=events)
    found = registry.vendor_mapping

    setattr(normalize, "vendor_mapping", lambda vendor: patched if vendor == "mediquo" else found(vendor))  # noqa: B010  # mypy: it is a cached function
    sys.argv = ["fhirline", "worker"]
    main()
