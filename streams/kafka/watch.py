"""A watch of whether Kafka answers, for `/readyz` and the log of a process that runs for months.

While no broker answers, the client libraries log tens of lines a second each. `KafkaWatch` replaces those lines: one
when the outage begins, one when it ends, and one every `REMIND_SECONDS` in between.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.clients import librdkafka, new_client

log = structlog.get_logger()

ASK_SECONDS = 5.0
"""Interval between two questions while Kafka answers. A line of a client library brings the next one forward."""

ASK_AWAY_SECONDS = 1.0
"""Interval while it does not."""

ANSWER_SECONDS = 3.0
"""Time for an answer. Two requests may fail before Kafka counts as away, so that is known after at most
``ASK_SECONDS + 2 * ANSWER_SECONDS``."""

REMIND_SECONDS = 60.0
"""Interval between two lines about an outage that lasts, and between two lines of a library of the same kind."""

LIBRARIES = ("librdkafka", "aiokafka", "kafka")
"""The loggers of the Kafka clients."""

PASSED = "kafka_watch_passed"
"""Attribute of a record that is printed after it was held back."""


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage: its first moment (``time.monotonic``) and the last reason a client had."""

    since: float
    reason: str


class KafkaWatch:
    """Asks Kafka for its brokers, in a thread of its own, from `start` to `stop`.

    ``remind_seconds``: the interval between two lines about an outage that lasts.
    """

    def __init__(self, settings: Settings, remind_seconds: float = REMIND_SECONDS) -> None:
        self._remind_seconds = remind_seconds
        self._where = settings.bootstrap
        self._settings = settings
        self._errors: list[KafkaError] = []
        self._outage: Outage | None = None
        self._reminded = 0.0
        self._wake = threading.Event()
        self._stopped = False
        self._lines = LibraryLines(self._wake.set)
        self._thread = threading.Thread(target=self._run, name="kafka-watch", daemon=True)

    def start(self, away: str | None = None) -> None:
        """Begin to ask. ``away``: why Kafka did not answer before, where it did not."""
        silent = logging.Logger("librdkafka.watch")
        silent.addHandler(logging.NullHandler())
        config = librdkafka(self._settings, **{"client.id": "fhirline-watch", "error_cb": self._errors.append})
        self._client = new_client(AdminClient, config, silent)
        if away is not None:
            self._begin(away)
        self._lines.attach()
        self._thread.start()

    def stop(self) -> None:
        """End the thread once its question is answered, and let the libraries' lines pass again.

        Waits for that answer, at most ``2 * ANSWER_SECONDS``: one that came while the interpreter ends would crash it.
        """
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(2 * ANSWER_SECONDS)
        self._lines.detach()

    def problems(self) -> list[str]:
        """Return a line with the reason while Kafka does not answer."""
        outage = self._outage
        if outage is None:
            return []
        seconds = round(time.monotonic() - outage.since)
        return [f"{PREFIX}BOOTSTRAP: no broker has answered at {self._where} for {seconds} s: {outage.reason}"]

    def _run(self) -> None:
        while not self._stopped:
            reason = self._ask()
            if self._stopped:
                return
            if reason is None:
                self._end()
                self._lines.release()
            elif self._outage is None:
                self._begin(reason)
            else:
                self._remind(self._outage, reason)
            self._wake.wait(ASK_SECONDS if self._outage is None else ASK_AWAY_SECONDS)
            self._wake.clear()

    def _ask(self) -> str | None:
        """Return None where a broker answers, else the reason.

        The first request goes to the controller, which may be the one broker of several that is away.
        """
        last: KafkaError | None = None
        for ask in (self._brokers, self._topics):
            if self._stopped:
                break
            try:
                ask()
                last = None
                break
            except KafkaException as error:
                last = error.args[0]
        self._client.poll(0)
        reported = [error for error in self._errors if error.code() != KafkaError._ALL_BROKERS_DOWN]
        self._errors.clear()
        if last is None:
            return None
        return (reported[-1] if reported else last).str().replace("\n", " ").partition(" (after ")[0]

    def _brokers(self) -> None:
        options: dict[str, Any] = {"request_timeout": ANSWER_SECONDS}
        self._client.describe_cluster(**options).result()

    def _topics(self) -> None:
        self._client.list_topics(timeout=ANSWER_SECONDS)

    def _begin(self, reason: str) -> None:
        self._outage = Outage(time.monotonic(), reason)
        self._reminded = time.monotonic()
        self._lines.drop()
        log.error("kafka away", bootstrap=self._where, reason=reason)

    def _remind(self, outage: Outage, reason: str) -> None:
        self._outage = Outage(outage.since, reason)
        now = time.monotonic()
        if now - self._reminded >= self._remind_seconds:
            self._reminded = now
            seconds, withheld = round(now - outage.since, 1), self._lines.withheld()
            log.error("kafka still away", bootstrap=self._where, reason=reason, seconds=seconds, withheld=withheld)

    def _end(self) -> None:
        if (outage := self._outage) is not None:
            self._outage = None
            seconds, withheld = round(time.monotonic() - outage.since, 1), self._lines.withheld()
            log.info("kafka back", bootstrap=self._where, seconds=seconds, withheld=withheld)


class LibraryLines(logging.Filter):
    """Holds back the client libraries' lines until it is known whether they are about an outage.

    ``on_line`` is called for each. `release` prints the last line of each kind, at most once in `REMIND_SECONDS`.
    Lines with an exception pass at once: a library logs those for defects, not for lost connections.
    """

    def __init__(self, on_line: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._on_line = on_line
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], logging.LogRecord] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._printed: dict[tuple[str, str], float] = {}

    def attach(self) -> None:
        for handler in logging.getLogger().handlers:
            handler.addFilter(self)

    def detach(self) -> None:
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        library = record.name.partition(".")[0]
        if library not in LIBRARIES or record.exc_info or hasattr(record, PASSED):
            return True
        kind = kind_of(record)
        with self._lock:
            self._held[kind] = record
            self._counts[kind] = self._counts.get(kind, 0) + 1
        if record.levelno >= logging.WARNING:
            self._on_line()
        return False

    def drop(self) -> None:
        """Drop the lines that are held back: the line about the outage replaces them."""
        with self._lock:
            self._held.clear()

    def withheld(self) -> int:
        """Return how many lines were held back since the last call, and drop them."""
        with self._lock:
            count = sum(self._counts.values())
            self._held.clear()
            self._counts.clear()
        return count

    def release(self) -> None:
        """Print the lines that were held back: Kafka answers, so they are not about an outage."""
        now = self._clock()
        with self._lock:
            due = [kind for kind in self._held if now - self._printed.get(kind, -REMIND_SECONDS) >= REMIND_SECONDS]
            lines = [(self._held.pop(kind), self._counts.pop(kind)) for kind in due]
            self._printed |= dict.fromkeys(due, now)
        for record, count in lines:
            text = record.getMessage()
            record.msg, record.args = f"{text} ({count} such lines)" if count > 1 else text, ()
            setattr(record, PASSED, True)
            logging.getLogger().handle(record)


def kind_of(record: logging.LogRecord) -> tuple[str, str]:
    """Return what lines of the same kind share: the logger, and librdkafka's facility or the unformatted message."""
    if record.name.startswith("librdkafka") and isinstance(record.args, tuple) and record.args:
        return record.name, str(record.args[0])
    return record.name, str(record.msg)[:100]
