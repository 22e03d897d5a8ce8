"""The check of a webhook's credential, in constant time.

``config/vendors.yaml`` names a secret. Its value is in the environment variable of that name (or a line of ``.env``),
or in the file that ``<NAME>_FILE`` names. A file may contain one secret per line, and is read again when it changes. So
a secret is replaced without a gap and without a restart: add the new one, later remove the old one. Every request of a
vendor without a secret is refused.
"""

import hashlib
import hmac
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from dotenv import dotenv_values

from fhirline.config.secret import warn_if_exposed
from fhirline.config.vendors import Credential

log = structlog.get_logger()

SETTLING = 1.0
"""Seconds for which a file that has just become empty is taken to be under way. Editors empty a file before writing it,
and no valid request may be refused in between."""


def environment() -> dict[str, str]:
    """Return the process's environment and the lines of ``.env``, the two sources of settings."""
    return {name: value for name, value in {**dotenv_values(".env"), **os.environ}.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Read:
    """The secrets of a file in one version of it (None: the file could not be read)."""

    version: tuple[int, ...] | None
    secrets: tuple[bytes, ...]


class Secrets:
    """The secrets that are valid now, by name. Each request checks whether a file has changed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._files: dict[str, _Read] = {}

    def valid(self, names: Sequence[str]) -> list[bytes]:
        """Return all secrets of these names, in their order."""
        return [secret for name in names for secret in self._of(name)]

    def _of(self, name: str) -> Sequence[bytes]:
        own = self._environment.get(name, "").strip()
        path = self._environment.get(f"{name}_FILE")
        return ([own.encode()] if own else []) + list(self._in_file(name, path) if path else ())

    def _in_file(self, name: str, path: str) -> Sequence[bytes]:
        last = self._files.get(name)
        version, reason = None, ""
        try:
            now = os.stat(path)
            version = (now.st_mtime_ns, now.st_ctime_ns, now.st_size, now.st_ino)
            if last is not None and version == last.version:
                return last.secrets
            secrets = tuple(line.strip() for line in Path(path).read_bytes().splitlines() if line.strip())
            if not secrets and last is not None and time.time() - now.st_mtime < SETTLING:
                return last.secrets
            warn_if_exposed(f"{name}_FILE", Path(path))
        except OSError as error:
            secrets, reason = (), error.strerror or type(error).__name__
            version = None
        if last is None or version != last.version:
            if reason:
                log.error("secret file cannot be read", setting=f"{name}_FILE", reason=reason)
            else:
                log.info("secret file read", setting=f"{name}_FILE", secrets=len(secrets))
        self._files[name] = _Read(version, secrets)
        return secrets


def credential_matches(credential: Credential, sent: str | None, body: bytes, secrets: Sequence[bytes]) -> bool:
    """Tell whether the header's value ``sent`` proves knowledge of one of ``secrets``.

    Every secret is compared, in a time that does not depend on where the values differ. An HMAC is over the raw body,
    in hex.
    """
    given = (sent or "").encode("utf-8", "surrogateescape")
    found = False
    for secret in secrets:
        if credential.scheme == "hmac-sha256":
            expected = hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
            matches = hmac.compare_digest(credential.prefix.encode() + expected, _lower_hex(given, credential.prefix))
        else:
            matches = hmac.compare_digest(credential.prefix.encode() + secret, given)
        found |= matches
    return found


def _lower_hex(given: bytes, prefix: str) -> bytes:
    """Lower the case of the hex digits, but not of the prefix."""
    cut = len(prefix.encode())
    return given[:cut] + given[cut:].lower()
