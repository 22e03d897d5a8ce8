"""Checks of this machine: ports, disk and clock."""

import ctypes
import http.client as http_client
import json
import os
import shutil
import socket
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.operate.doctor.finding import Finding, ok, problem, several, warning

SECONDS = 3.0
AHEAD = 2.0
"""Seconds that two machines' clocks may differ. NTP keeps them within a fraction of one."""

TIME_ERROR = 5
"""The kernel's answer where nothing synchronizes its clock (adjtimex(2))."""

FREE_BYTES = 1 << 30


def gateway_port(settings: Settings) -> Finding:
    """Check that the port is free, or that a gateway of ours serves it and is ready."""
    where = f"{PREFIX}GATEWAY_PORT {settings.gateway_port}"
    if settings.gateway_port == 0:
        return ok("gateway port", "0: a free one is taken at start")
    found = _gateway(settings)
    if found is None:
        if reason := _unbindable(settings.gateway_host, settings.gateway_port):
            return problem("gateway port", f"{where}: {reason}", f"set another {PREFIX}GATEWAY_HOST or _PORT")
        return ok("gateway port", f"{where} is free")
    status, answer = found
    if not isinstance(answer, dict) or answer.get("status") not in ("ready", "not ready"):
        return problem(
            "gateway port", f"{where}: another program listens there", f"stop it, or set {PREFIX}GATEWAY_PORT"
        )
    if status != 200:
        lacks = several([str(item) for item in answer.get("problems", ())])
        return problem("gateway port", f"{where}: a gateway that is not ready: {lacks}", "fix what it names")
    return ok("gateway port", f"{where}: a gateway listens there, and is ready")


def gateway_is_ready(settings: Settings) -> bool:
    """Tell whether a gateway of ours serves the port and is ready. It may have secrets that this process has not."""
    status, answer = _gateway(settings) or (0, None)
    return status == 200 and isinstance(answer, dict) and answer.get("status") == "ready"


def _gateway(settings: Settings) -> tuple[int, object] | None:
    """Ask whoever listens on the gateway's port whether it is ready; None where nobody does."""
    host = _reachable(settings.gateway_host)
    if settings.gateway_port == 0 or not _listening(host, settings.gateway_port):
        return None
    return _asked(host, settings.gateway_port, "/readyz")


def metrics_port(settings: Settings) -> Finding:
    """Check that the port is unset or free, or that a process of ours serves it."""
    port, where = settings.metrics_port, f"{PREFIX}METRICS_PORT {settings.metrics_port}"
    if port is None:
        return ok("metrics port", "none: metrics are not served")
    if port and port == settings.gateway_port and settings.metrics_host == settings.gateway_host:
        return problem("metrics port", f"{where} is also the gateway's", f"set another {PREFIX}METRICS_PORT")
    host = _reachable(settings.metrics_host)
    if port and _listening(host, port):
        _, answer = _asked(host, port, "/metrics", parse=False)
        if isinstance(answer, str) and "fhirline_" in answer:
            return ok("metrics port", f"{where}: a fhirline process listens there")
        return problem("metrics port", f"{where}: another program listens there", f"set another {PREFIX}METRICS_PORT")
    if reason := _unbindable(settings.metrics_host, port):
        return problem("metrics port", f"{where}: {reason}", f"set another {PREFIX}METRICS_HOST or _PORT")
    return ok("metrics port", f"{where} is free")


def replay_folder(settings: Settings) -> Finding:
    """Check that the folder of replays, which contains patient data, is private and has room."""
    folder = settings.replay_dir
    if folder.exists() and (not folder.is_dir() or not os.access(folder, os.W_OK)):
        return problem("replay folder", f"{folder}: not a writable folder", f"set {PREFIX}REPLAY_DIR")
    if folder.exists() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return warning("replay folder", f"{folder}: other users of this machine can read it", f"chmod 700 {folder}")
    free = shutil.disk_usage(_existing(folder)).free
    if free < FREE_BYTES:
        return warning("replay folder", f"{folder}: {free / 1e9:.1f} GB free", "free space before a replay")
    return ok("replay folder", f"{folder}: {free / 1e9:.0f} GB free")


def clock(now: float, newest: float | None, kept: bool | None) -> Iterator[Finding]:
    """Check this machine's clock against the newest record's timestamp, and whether it is synchronized.

    A broker's own clock can be read only by writing. ``now`` and ``newest`` in UNIX seconds. ``kept``: whether the
    kernel reports that its clock is synchronized, None where it does not report it.
    """
    if newest is not None and newest - now > AHEAD:
        yield warning(
            "clock",
            f"the newest raw record is {newest - now:,.0f} s ahead of this machine's clock",
            "synchronize this machine's clock, the gateways' and those of other producers (NTP)",
        )
    elif newest is None:
        yield ok("clock", "no raw record to compare this machine's clock with")
    else:
        yield ok("clock", "no raw record is ahead of this machine's clock")
    if kept is False:
        yield warning("clock", "this machine's clock is not synchronized (adjtimex)", "run chrony or systemd-timesyncd")
    elif kept:
        yield ok("clock", "this machine's clock is synchronized")


def clock_is_kept() -> bool | None:
    """Ask the kernel whether its clock is synchronized; None where it cannot be asked (it can on Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))  # all zeros: reads, and sets nothing
    return None if state < 0 else state != TIME_ERROR


def _reachable(host: str) -> str:
    """Return the address at which a server on ``host`` is reached."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def _listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def _unbindable(host: str, port: int) -> str | None:
    """Explain why no server could listen there; None where one can."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _asked(host: str, port: int, path: str, *, parse: bool = True) -> tuple[int, object]:
    """Request a path. Return status and content; (0, None) where the answer is not HTTP, or not JSON."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
    try:
        with _DIRECT.open(url, timeout=SECONDS) as answer:
            status, content = answer.status, answer.read(1 << 20).decode()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read(1 << 20).decode(errors="replace")
    except (OSError, ValueError, http_client.HTTPException):
        return 0, None
    try:
        return status, json.loads(content) if parse else content
    except ValueError:
        return 0, None


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs of this machine, without a proxy."""


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
