"""Checks of this machine: its ports, its disk, its clock."""

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
"""Seconds that two machines' clocks may differ without a word: NTP keeps them within a fraction of one."""

TIME_ERROR = 5
"""What the kernel answers where nothing keeps its clock (adjtimex(2))."""

FREE_BYTES = 1 << 30


def gateway_port(settings: Settings) -> Finding:
    """Free, or served by a gateway of ours, which is then asked whether it is ready."""
    where = f"{PREFIX}GATEWAY_PORT {settings.gateway_port}"
    host = _reachable(settings.gateway_host)
    if settings.gateway_port == 0:
        return ok("gateway port", "0: a free one is taken at start")
    if not _listening(host, settings.gateway_port):
        if reason := _unbindable(settings.gateway_host, settings.gateway_port):
            return problem("gateway port", f"{where}: {reason}", f"set another {PREFIX}GATEWAY_HOST or _PORT")
        return ok("gateway port", f"{where} is free")
    status, answer = _asked(host, settings.gateway_port, "/readyz")
    if not isinstance(answer, dict) or answer.get("status") not in ("ready", "not ready"):
        return problem(
            "gateway port", f"{where}: another program listens there", f"end it, or set {PREFIX}GATEWAY_PORT"
        )
    if status != 200:
        lacks = several([str(each) for each in answer.get("problems", ())])
        return problem("gateway port", f"{where}: a gateway that is not ready: {lacks}", "mend what it names")
    return ok("gateway port", f"{where}: a gateway serves there, and is ready")


def metrics_port(settings: Settings) -> Finding:
    """Unset, free, or served by a process of ours."""
    port, where = settings.metrics_port, f"{PREFIX}METRICS_PORT {settings.metrics_port}"
    if port is None:
        return ok("metrics port", "none: only the gateway has metrics, at its own port")
    if port and port == settings.gateway_port and settings.metrics_host == settings.gateway_host:
        return problem("metrics port", f"{where} is the gateway's too", f"set another {PREFIX}METRICS_PORT")
    host = _reachable(settings.metrics_host)
    if port and _listening(host, port):
        _, answer = _asked(host, port, "/metrics", parse=False)
        if isinstance(answer, str) and "fhirline_" in answer:
            return ok("metrics port", f"{where}: a process of fhirline serves there")
        return problem("metrics port", f"{where}: another program listens there", f"set another {PREFIX}METRICS_PORT")
    if reason := _unbindable(settings.metrics_host, port):
        return problem("metrics port", f"{where}: {reason}", f"set another {PREFIX}METRICS_HOST or _PORT")
    return ok("metrics port", f"{where} is free")


def replay_folder(settings: Settings) -> Finding:
    """A replay keeps patients' data there: nobody else may look in, and it must fit."""
    folder = settings.replay_dir
    if folder.exists() and (not folder.is_dir() or not os.access(folder, os.W_OK)):
        return problem("replay folder", f"{folder}: not a folder that can be written", f"set {PREFIX}REPLAY_DIR")
    if folder.exists() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return warning("replay folder", f"{folder}: other users of this machine can look in", f"chmod 700 {folder}")
    free = shutil.disk_usage(_existing(folder)).free
    if free < FREE_BYTES:
        return warning("replay folder", f"{folder}: {free / 1e9:.1f} GB free", "make room before a replay")
    return ok("replay folder", f"{folder}: {free / 1e9:.0f} GB free")


def clock(now: float, newest: float | None, kept: bool | None) -> Iterator[Finding]:
    """This machine's clock. Nothing but writing would ask a broker for its own, so two signs stand for it.

    ``now`` and ``newest`` (the latest record's timestamp) in UNIX seconds; ``kept``: whether this machine's kernel says
    that something like NTP keeps its clock, None where it does not say.
    """
    if newest is not None and newest - now > AHEAD:
        yield warning(
            "clock",
            f"the newest raw record is {newest - now:,.0f} s ahead of this machine's clock",
            "let NTP keep this machine's clock, the gateways' and those of other producers",
        )
    elif newest is None:
        yield ok("clock", "no raw record to compare this machine's clock with")
    else:
        yield ok("clock", "no raw record is ahead of this machine's clock")
    if kept is False:
        yield warning("clock", "nothing keeps this machine's clock right (adjtimex)", "run chrony or systemd-timesyncd")
    elif kept:
        yield ok("clock", "this machine's clock is kept right")


def clock_is_kept() -> bool | None:
    """What the kernel says; None where it cannot be asked (only Linux can)."""
    if not sys.platform.startswith("linux"):
        return None
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))  # all zeros: asks, and sets nothing
    return None if state < 0 else state != TIME_ERROR


def _reachable(host: str) -> str:
    """Where to ask for what listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def _listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def _unbindable(host: str, port: int) -> str | None:
    """Why nothing could listen there; None where something can."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _asked(host: str, port: int, path: str, *, parse: bool = True) -> tuple[int, object]:
    """Status and content; (0, None) where no HTTP, or no JSON, comes back."""
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
"""This machine is never asked through a proxy."""


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())
