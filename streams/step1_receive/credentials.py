"""The check of a webhook's credential, in constant time.

``config/vendors.yaml`` names a secret. Its value is in the environment variable of that name (or a line of ``.env``),
or in the file that ``<NAME>_FILE`` names. A file may contain one secret per line, and is read again when it changes. So
a secret is replaced without a gap and without a restart: add the new one, later remove the old one. Every request of a
vendor without a secret is refused.
"""

import hashlib
import hmac
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from dotenv import dotenv_values

from fhirline.config.secret import warn_if_exposed
from fhirline.config.vendors import Credential, Freshness

log = structlog.get_logger()

SETTLING = 10.0
"""Seconds for which the secrets of a file that has just become empty stay valid. Editors empty a file before they write
it, and no valid request may be refused in between, also on a machine that pauses the editor."""

HEX = b"0123456789abcdef"
HEX_DIGITS = hashlib.sha256().digest_size * 2

UNIX_TIME = re.compile(r"\d{1,13}(\.\d{1,9})?", re.ASCII)
MILLISECONDS_FROM = 1e11
"""Unix times from here on are milliseconds: as seconds they would be after the year 5000."""


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
            # Asked again: an editor may have emptied the file after the first question.
            if not secrets and last is not None and time.time() - os.stat(path).st_mtime < SETTLING:
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


class CredentialCheck:
    """The check of one request's credential: the body is passed to `update` as it comes, then `matches` decides.

    ``sent``: the value of the credential's header. ``time_sent``: that of the header of its ``freshness``. An HMAC is
    over the raw body, behind the text that ``freshness`` adds, in hex.
    """

    def __init__(
        self, credential: Credential, sent: str | None, secrets: Sequence[bytes], time_sent: str | None = None
    ) -> None:
        self._prefix = credential.prefix.encode()
        self._given = (sent or "").encode("utf-8", "surrogateescape")
        self._secrets = secrets
        self._signatures: list[hmac.HMAC] | None = None
        if credential.scheme == "hmac-sha256":
            before = b""
            if credential.freshness is not None:
                text = credential.freshness.signed_before_body.replace("{time}", time_sent or "")
                before = text.encode("utf-8", "surrogateescape")
            self._signatures = [hmac.new(secret, before, hashlib.sha256) for secret in secrets]

    @property
    def signed(self) -> bool:
        """Tell whether the body is needed to check the credential, as for a signature."""
        return self._signatures is not None

    @property
    def possible(self) -> bool:
        """Tell, before the body is read, whether the value may be right: by a signature's form, or a static secret."""
        if self._signatures is None:
            return self.matches()
        digits = self._given.removeprefix(self._prefix)
        return self._given.startswith(self._prefix) and len(digits) == HEX_DIGITS and digits.lower().strip(HEX) == b""

    def update(self, part: bytes) -> None:
        for signature in self._signatures or ():
            signature.update(part)

    def matches(self) -> bool:
        """Tell whether the sender knows one of the secrets.

        Every secret is compared, in a time that does not depend on where the values differ.
        """
        found = False
        if self._signatures is None:
            for secret in self._secrets:
                found |= hmac.compare_digest(self._prefix + secret, self._given)
            return found
        given = self._given[: len(self._prefix)] + self._given[len(self._prefix) :].lower()
        for signature in self._signatures:
            found |= hmac.compare_digest(self._prefix + signature.hexdigest().encode(), given)
        return found


def credential_matches(credential: Credential, sent: str | None, body: bytes, secrets: Sequence[bytes]) -> bool:
    """Tell whether the header's value ``sent`` proves knowledge of one of ``secrets``, for a whole body."""
    check = CredentialCheck(credential, sent, secrets)
    check.update(body)
    return check.matches()


def is_fresh(freshness: Freshness, time_sent: str | None, now: float) -> bool:
    """Tell whether a request's time is within the allowed seconds of ``now`` (Unix seconds).

    The time is in Unix seconds or milliseconds, or an RFC 3339 instant.
    """
    text = (time_sent or "").strip()
    if UNIX_TIME.fullmatch(text):
        at = float(text)
        if at >= MILLISECONDS_FROM:
            at /= 1000
    else:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            return False
        if parsed.tzinfo is None:
            return False
        at = parsed.timestamp()
    return abs(now - at) <= freshness.seconds
