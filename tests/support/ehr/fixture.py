"""Fixtures: a real FHIR server, one for all tests of a process that ask for the same switches."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn

import pytest

from tests.support.ehr.build import Unavailable
from tests.support.ehr.server import EhrServer

EhrServers = Callable[..., EhrServer]
"""``ehr_server(validate=True)``: the running server with these switches."""


def unavailable(reason: object) -> NoReturn:
    """Skip where the FHIR server cannot be had; fail in CI, where that would go unseen."""
    if os.environ.get("CI"):
        pytest.fail(f"a FHIR server is needed in CI: {reason}", pytrace=False)
    pytest.skip(f"no FHIR server here: {reason}")


@contextmanager
def own_ehr_server(durable: bool = False, **switches: bool | str) -> Iterator[EhrServer]:
    """A FHIR server for one test, which may end and restart it; or a skip. Such a test is marked ``long`` by itself."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(EhrServer(durable, **switches))
        except Unavailable as error:
            unavailable(error)
        yield server


@pytest.fixture(scope="session")
def ehr_server() -> Iterator[EhrServers]:
    """Return the running server with the given switches (see `EhrServer`); it is started when it is first asked for.

    Tests share it: what earlier tests sent is still there, so call ``clear()`` first, or use ids of your own.
    A test that has used `restart` or `kill` on it leaves it running.
    """
    servers: dict[str, EhrServer] = {}
    with ExitStack() as stack:

        def server(durable: bool = False, **switches: bool | str) -> EhrServer:
            asked = repr((durable, sorted(switches.items())))
            if asked not in servers:
                servers[asked] = stack.enter_context(own_ehr_server(durable, **switches))
            return servers[asked]

        yield server
