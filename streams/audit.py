"""Audit events: who did what with patients' data, and why. One line each, on standard error with the other logs."""

import getpass
import os
import sys

import structlog


def audit(event: str, *, by: str, reason: str, **about: str | None) -> None:
    """Write an audit event. To be called before anything is shown: what is not in the audit was not seen.

    ``by``: the command; ``about``: what was seen, never a payload or a record's key. Never filtered: FHIRLINE_LOG_LEVEL
    says what of the daily noise is wanted, an audit is none.
    """
    unfiltered = structlog.make_filtering_bound_logger(0)
    log = structlog.wrap_logger(structlog.WriteLogger(sys.stderr), wrapper_class=unfiltered)
    log.info(event, logger="audit", **about, by=by, who=_who(), reason=reason)


def _who() -> str:
    """The operating system's user of this process: the user id's name, not what the environment says."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except ImportError:  # Windows has no user ids
        return getpass.getuser()
    except KeyError:  # a container's user without a name
        return f"uid {os.getuid()}"
