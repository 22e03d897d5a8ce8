"""The audit log: who saw a patient's data, or erased it, and why. One line each, on standard error."""

import getpass
import os
import sys

import structlog


def audit(event: str, *, by: str, name: str | None, **fields: str | None) -> None:
    """Write an audit line. Call it before the action, so that nothing happens without its line.

    ``by``: the command. ``name``: the person named with ``--as``, logged as ``as``. ``fields`` contain no payload and
    no key. The field ``who`` is the operating system's user. FHIRLINE_LOG_LEVEL does not filter audit lines.
    """
    unfiltered = structlog.make_filtering_bound_logger(0)
    log = structlog.wrap_logger(structlog.WriteLogger(sys.stderr), wrapper_class=unfiltered).bind(logger="audit")
    log.info(event, **fields, by=by, who=who(), **({"as": name} if name else {}))


def who() -> str:
    """Return the name of this process's user id, whatever the environment contains."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except ImportError:  # Windows has no user ids
        return getpass.getuser()
    except KeyError:  # a container's user without a name
        return f"uid {os.getuid()}"
