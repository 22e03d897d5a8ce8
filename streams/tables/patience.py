"""Waits for a database or folder that does not answer, and for other processes (docs/design/tables.md §5, §11)."""

import time
from collections.abc import Callable

import structlog

from fhirline.streams.tables.metrics import TablesMetrics
from fhirline.streams.tables.store import RowConflict, Stopped, Store, StoreUnavailable

log = structlog.get_logger("tables")

RETRY_SECONDS = 0.5
RETRY_LONGEST = 15.0
CONFLICTS = 5
"""Number of times that a transaction is repeated whose rows have the key of others."""


class Patience:
    """Repeats work on tables until it is done. ``stopping``: asked while it waits.

    ``reconnect``: done before work is repeated. ``shared``: whether other processes write to the tables too.
    """

    def __init__(
        self,
        metrics: TablesMetrics,
        stopping: Callable[[], bool],
        reconnect: Callable[[], None] = lambda: None,
        shared: bool = False,
    ) -> None:
        self._metrics = metrics
        self._reconnect = reconnect
        self._shared = shared
        self._stopping = stopping
        self.problem = ""
        """Reason for which the database does not answer; empty while it does."""
        self.uncertain = False
        """True while the last transaction has no known result."""

    def do(self, work: Callable[[], None]) -> None:
        """Do ``work``, and repeat it while the database does not answer. Raises Stopped."""
        seconds, conflicts = RETRY_SECONDS, 0
        while True:
            try:
                work()
            except StoreUnavailable as error:
                self.uncertain = True
                if not self.problem:
                    log.warning("the database does not answer", reason=str(error))
                self.problem = str(error)
                self._metrics.away.set(1)
            except RowConflict:
                conflicts += 1
                if not self._shared or conflicts > CONFLICTS:
                    raise
                self.pause(RETRY_SECONDS)
                continue
            else:
                self.uncertain = False
                if self.problem:
                    log.info("the database answers again")
                self.problem = ""
                self._metrics.away.set(0)
                return
            self.pause(seconds)
            seconds = min(2 * seconds, RETRY_LONGEST)
            try:
                self._reconnect()
            except StoreUnavailable as error:
                self.problem = str(error)

    def alone(self, store: Store, work: Callable[[], None]) -> None:
        """Do ``work`` while no other process makes, replaces or drops tables. Raises Stopped and StoreUnavailable."""
        waited = False
        while True:
            with store.alone() as alone:
                if alone:
                    work()
                    return
            if not waited:
                log.info("another process prepares the tables", database=store.name)
            waited = True
            self.pause(RETRY_SECONDS)

    def pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._stopping():
                raise Stopped
            time.sleep(0.05)
