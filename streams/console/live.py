"""Readings of the cluster every few seconds, and those of the last hour. It keeps no record's content."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import structlog

from fhirline.config.errors import ConfigurationError, KafkaAccessError
from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.stalled import StallDetector, Stalled
from fhirline.streams.deliver.stage import deliver_group
from fhirline.streams.observe.logs import describe_error
from fhirline.streams.operate.status.reading import Reader, Reading
from fhirline.streams.operate.status.summary import Status, rate_of, sources_of, summarize
from fhirline.streams.operate.status.warehouse import read_tables
from fhirline.topics.declared import declared

log = structlog.get_logger()

EVERY = 3.0
"""Seconds between two readings."""
MINUTE = 60.0
"""Seconds between the readings that rates are counted from. After the start it is less."""
HOUR = 3_600.0
POINTS = 120
"""Points of a sparkline: 30 s each."""
LATE = 30.0
"""Seconds without a reading after which the figures are called old: a broker that hangs answers no attempt for long."""
TIMEOUT = 10.0


class Live:
    """Takes readings in a thread of its own. `changed` is set, and made anew, at each reading.

    ``reading``: the last one, None before the first one. ``status``: its summary. ``before``: the reading of `MINUTE`
    seconds before, from which its rates are counted; None for the first one. ``problem``: why the last attempt
    failed, else empty. ``taken``: the monotonic time of the last reading. ``stalled``: what waits, and nobody takes it.
    """

    def __init__(self, settings: Settings, index: EventIndex) -> None:
        self._settings = settings
        self._index = index
        self._sources = sources_of(settings, load_vendors(settings.vendors_file))
        self._stalls = StallDetector(self._sources)
        self._rates: dict[str, deque[tuple[float, float]]] = {}
        self._ended = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="live")
        self._delivers = deliver_group(settings)
        self.status: Status | None = None
        self.reading: Reading | None = None
        self.before: Reading | None = None
        self.stalled: list[Stalled] = []
        self.taken = time.monotonic()
        self.problem = ""
        self.changed = asyncio.Event()

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._ended.set()
        await asyncio.to_thread(self._thread.join)

    @property
    def late(self) -> bool:
        """Tell whether the last reading is too old to be taken for the present."""
        return time.monotonic() - self.taken > LATE

    def sparkline(self, topic: str) -> list[float]:
        """Return the records per second of the last hour, `POINTS` means, the oldest first."""
        taken = list(self._rates.get(topic, ()))
        now, width = time.monotonic(), HOUR / POINTS
        sums = [(0.0, 0)] * POINTS
        for at, rate in taken:
            if 0 <= (place := POINTS - 1 - int((now - at) / width)) < POINTS:
                total, count = sums[place]
                sums[place] = (total + rate, count + 1)
        return [total / count if count else 0.0 for total, count in sums]

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with ExitStack() as stack:
                    self._read_on(stack)
            except (ConfigurationError, KafkaAccessError) as error:
                self._report(str(error))
                self._ended.wait(EVERY)
            except Exception as error:  # noqa: BLE001  # without this thread, old figures would look like new ones
                self._report(f"a defect of the console: {describe_error(error)}")
                self._ended.wait(EVERY)

    def _read_on(self, stack: ExitStack) -> None:
        """Take readings until the end. Raises KafkaAccessError where the cluster does not answer."""
        vendors = load_vendors(self._settings.vendors_file)
        groups = tuple(dict.fromkeys(source.group for source in self._sources))
        reader = stack.enter_context(Reader(self._settings, vendors.names, groups, TIMEOUT))
        followed = stack.enter_context(self._index.following())
        readings = deque[Reading]()
        while not self._ended.is_set():
            followed()
            now = reader.read()
            while len(readings) > 1 and readings[1].seconds <= now.seconds - MINUTE:
                readings.popleft()
            self._take(now, readings)
            readings.append(now)
            self._ended.wait(EVERY)

    def _take(self, now: Reading, readings: Sequence[Reading]) -> None:
        """Take a reading. ``readings``: those of the minute before it, the oldest first."""
        before = readings[0] if readings else None
        tables = read_tables(self._settings, now.ends)
        tabled = None if tables is None or tables.problem else tables.positions
        self._index.take_offsets(now.committed.get(self._delivers, {}), tabled)
        found = summarize(self._settings.bootstrap, declared(self._settings), self._sources, now, before, tables)
        for topic in {inflow.topic for inflow in found.inflows}:
            if (rate := rate_of(topic, now, readings[-1] if readings else None)) is not None:
                self._rates.setdefault(topic, deque(maxlen=int(HOUR / EVERY))).append((time.monotonic(), rate))
        self.reading, self.before, self.status = now, before, found
        self.stalled, self.taken = self._stalls.take(now), time.monotonic()
        self._report("")

    def _report(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("no reading", problem=problem)
        self.problem = problem
        self._tell(self._renew)

    def _tell(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _renew(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
