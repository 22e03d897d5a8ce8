"""The token of Infermedica's webhooks: the gateway's own secret, read from where the gateway reads it.

A file may contain several tokens, one per line, and the gateway accepts each of them (``step1_receive.credentials``).
The last line is the newest, and is the one sent to the instance. A new token is appended to the file before it is sent,
so that no webhook is refused in between.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fhirline.config.errors import ConfigurationError
from fhirline.config.vendors import TenantSettings

HEADER = "x-webhook-infermedica-token"
BYTES = 32
MODE = 0o600


@dataclass(frozen=True, slots=True)
class TokenSource:
    """The tokens in a file (``path``) or in the variable ``name``. ``prefix`` as in vendors.yaml."""

    name: str
    path: Path | None
    tokens: tuple[str, ...]
    prefix: str = ""

    @property
    def newest(self) -> str:
        """Return the token to send to the instance. Raises ConfigurationError where none is valid in a header."""
        where = str(self.path) if self.path else self.name
        if not self.tokens:
            raise ConfigurationError(f"{where}: contains no token (--generate creates one)")
        token = self.prefix + self.tokens[-1]
        if not token.isascii() or not token.isprintable():
            raise ConfigurationError(f"{where}: the last token is not valid in an HTTP header")
        return token

    @property
    def readable_by_others(self) -> bool:
        return self.path is not None and self.path.exists() and bool(self.path.stat().st_mode & 0o077)


def token_source(tenant: TenantSettings, environment: Mapping[str, str], given: Path | None) -> TokenSource:
    """Return the tokens of the file ``given``, else of the first of the tenant's secrets that is set."""
    credential = tenant.credential
    if credential is None or credential.scheme != "static" or credential.header.lower() != HEADER:
        raise ConfigurationError(
            f"vendors.yaml: Infermedica sends its token in {HEADER}; the credential names another header or scheme"
        )
    name = credential.secrets[0]
    if given is not None:
        return TokenSource(name, given, _lines(given), credential.prefix)
    for variable in credential.secrets:
        if path := environment.get(f"{variable}_FILE"):
            return TokenSource(variable, Path(path), _lines(Path(path)), credential.prefix)
        if token := environment.get(variable, "").strip():
            return TokenSource(variable, None, (token,), credential.prefix)
    return TokenSource(name, None, (), credential.prefix)


class NewToken:
    """A generated token, already in its file; `withdraw` removes it."""

    def __init__(self, source: TokenSource) -> None:
        if source.path is None:
            raise ConfigurationError(
                f"--generate needs a file: give --token-file, and let {source.name}_FILE name it to the gateway"
            )
        self.token = source.prefix + (made := secrets.token_urlsafe(BYTES))
        self._path = source.path
        try:
            descriptor = os.open(source.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, MODE)
            with os.fdopen(descriptor, "rb+", buffering=0) as file:
                self._size = file.seek(0, os.SEEK_END)
                ended = self._size == 0 or (os.pread(descriptor, 1, self._size - 1) == b"\n")
                file.write(b"" if ended else b"\n")
                file.write(f"{made}\n".encode())
                os.fsync(descriptor)
        except OSError as error:
            raise ConfigurationError(f"{source.path}: {error.strerror}") from None

    def withdraw(self) -> None:
        """Restore the file, after the instance has refused the token."""
        os.truncate(self._path, self._size)


def _lines(path: Path) -> tuple[str, ...]:
    """Read the tokens of a file; none where it does not exist."""
    try:
        return tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8") from None
