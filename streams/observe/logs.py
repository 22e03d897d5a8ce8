"""Structured logs on standard error, for our own lines (structlog) and the libraries' (stdlib logging) alike.

A log line must never carry patient data (mapping.md §7). Messages of exceptions are the one place where it could slip
in unseen: pydantic's quote their input, so do parsers'. So an exception is logged by type and place, and by its message
only where it comes from code that never sees a payload.
"""

import asyncio
import logging
import sys
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
"""Packages whose exceptions speak of settings, brokers and topics, never of a record's value."""

CHATTY = ("faust", "mode", "aiokafka", "kafka")
"""Libraries that tell of every service and every join; heard in full with ``FHIRLINE_LOG_LEVEL=debug``."""

FRAMES = 20


def configure_logging(settings: Settings) -> None:
    """Route everything to standard error: JSON, or pretty where ``FHIRLINE_LOG_FORMAT`` or a terminal says so."""
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
    root.setLevel(max(level, logging.INFO))  # the libraries' debug lines may show what they carry
    if level > logging.DEBUG:
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
    sys.excepthook = _log_crash


def without_messages(_: Any, __: str, line: Line) -> Line:
    """Replace ``exc_info`` by ``exception``: what was raised where, the causes behind it last."""
    info = line.pop("exc_info", None)
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else None
    if info and error is None:
        error = sys.exc_info()[1]
    if error is not None:
        line["exception"] = [described(each) for each in _chain(error)]
    return line


def described(error: BaseException) -> str:
    """``Type: message at file:line in function < ...``, innermost frame first; the message only where it is safe."""
    kind = type(error)
    safe = isinstance(error, OSError) or f"{kind.__module__}.".startswith(WITHOUT_PAYLOAD)
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = " < ".join(
        f"{'/'.join(Path(each.filename).parts[-3:])}:{each.lineno} in {each.name}" for each in reversed(frames)
    )
    return f"{kind.__qualname__}{f': {error}' if safe else ''}{f' at {places}' if places else ''}"


def log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler: asyncio's own would print the exception's message."""
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


def _json(line: Line, **_: Any) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
