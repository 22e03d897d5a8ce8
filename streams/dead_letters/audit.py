"""Who saw the payload of which dead letter, and why: one line each, on standard error with the other logs."""

import getpass
import os
import sys
from collections.abc import Iterable

import structlog

from streams.dead_letters.letters import Case


def revealed(cases: Iterable[Case], how: str, reason: str) -> None:
    """To be called before anything is shown: what is not in the audit was not seen. Never holds payload or key.

    ``how``: what the payload was revealed by (``show``, ``export``). Never filtered: FHIRLINE_LOG_LEVEL says what of
    the daily noise is wanted, an audit is none.
    """
    unfiltered = structlog.make_filtering_bound_logger(0)
    log = structlog.wrap_logger(structlog.WriteLogger(sys.stderr), wrapper_class=unfiltered).bind(logger="audit")
    for case in cases:
        log.info(
            "dead letter revealed",
            letter=case.id,
            vendor=case.last.vendor,
            tenant=case.last.tenant,
            event_key=case.last.event_key,
            by=how,
            who=who(),
            reason=reason,
        )


def who() -> str:
    """The operating system's user of this process: the user id's name, not what the environment says."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except ImportError:  # Windows has no user ids
        return getpass.getuser()
    except KeyError:  # a container's user without a name
        return f"uid {os.getuid()}"
