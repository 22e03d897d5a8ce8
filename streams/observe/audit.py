"""Who saw a patient's data, or erased it, and why: one line each, on standard error with the other logs."""

import getpass
import os
import sys

import structlog


def audit(event: str, *, by: str, name: str | None, **told: str | None) -> None:
    """To be called before it is done: what is not in the audit has not happened. ``told`` holds no payload and no key.

    ``by``: the command. ``name``: who says to be doing it (``--as``), as ``as``; ``who`` is the operating system's
    user, whatever is said. Never filtered: FHIRLINE_LOG_LEVEL says what of the daily noise is wanted, an audit is none.
    """
    unfiltered = structlog.make_filtering_bound_logger(0)
    log = structlog.wrap_logger(structlog.WriteLogger(sys.stderr), wrapper_class=unfiltered).bind(logger="audit")
    log.info(event, **told, by=by, who=who(), **({"as": name} if name else {}))


def who() -> str:
    """The operating system's user of this process: the user id's name, not what the environment says."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except ImportError:  # Windows has no user ids
        return getpass.getuser()
    except KeyError:  # a container's user without a name
        return f"uid {os.getuid()}"
