"""Structured logs on standard error, for our own lines (structlog) and the libraries' (stdlib logging).

A log line must never contain patient data (mapping.md §7). Messages of exceptions could bring it in unseen: pydantic
and the parsers quote their input. So an exception is logged by type and place, and by its message only where it comes
from code that never sees a payload.
"""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import structlog
from structlog.typing import Processor

from fhirline.config.settings import Settings

Line = MutableMapping[str, Any]

WITHOUT_PAYLOAD = ("fhirline.config.", "confluent_kafka.", "cimpl.", "kafka.", "aiokafka.")
"""Packages whose exceptions name settings, brokers and topics, never the value of a record."""

VERBOSE = ("faust", "mode", "aiokafka", "kafka", "fhirline.streams.step2_consume.faust")
"""Libraries that log every service and every join. All of it is logged with ``FHIRLINE_LOG_LEVEL=debug``."""

FRAMES = 20


def configure_logging(settings: Settings) -> None:
    """Send all logs to standard error: as JSON, or pretty for a terminal or by ``FHIRLINE_LOG_FORMAT``."""
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stderr.isatty())
    level = getattr(logging, settings.log_level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_messages,
    ]
    render: Processor = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(_json)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))  # debug lines of libraries may contain payloads
    if level > logging.DEBUG:
        for name in VERBOSE:
            logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_crash
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_thread_crash


def without_messages(_: Any, __: str, line: Line) -> Line:
    """Replace ``exc_info`` by ``exception``: a description of each exception of the chain, causes last."""
    info = line.pop("exc_info", None)
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else None
    if info and error is None:
        error = sys.exc_info()[1]
    if error is not None:
        line["exception"] = [describe_error(item) for item in _chain(error)]
    return line


def describe_error(error: BaseException) -> str:
    """Describe an exception: ``Type: message at file:line in function < ...``, innermost frame first.

    The message is left out where it may quote a payload.
    """
    kind = type(error)
    safe = isinstance(error, OSError) or f"{kind.__module__}.".startswith(WITHOUT_PAYLOAD)
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = " < ".join(
        f"{'/'.join(Path(frame.filename).parts[-4:])}:{frame.lineno} in {frame.name}" for frame in reversed(frames)
    )
    return f"{kind.__qualname__}{f': {error}' if safe else ''}{f' at {places}' if places else ''}"


def log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle an exception of an event loop; asyncio's own handler would print its message."""
    structlog.get_logger().error("event loop error", reason=context.get("message"), exc_info=context.get("exception"))


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return chain


def _log_crash(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, at)
    else:
        structlog.get_logger().critical("crashed", exc_info=error)


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if not issubclass(crash.exc_type, SystemExit):
        name = crash.thread.name if crash.thread else None
        structlog.get_logger().error("thread crashed", thread=name, exc_info=crash.exc_value)


def _log_unraisable(ignored: Any) -> None:
    """Log an exception that Python ignores, such as one of a callback from C or of a finalizer."""
    structlog.get_logger().error("exception ignored", exc_info=ignored.exc_value)


def _json(line: Line, **_: Any) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
