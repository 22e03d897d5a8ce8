"""How requests are authorized: not, by user and password, or by a bearer token from a file (fhir-delivery.md §6)."""

import base64
from typing import Protocol

import aiohttp

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import read_secret_file, secret
from fhirline.config.settings import PREFIX, Settings

Headers = dict[str, str]


class Authorization(Protocol):
    """Makes the header ``Authorization`` of requests."""

    async def headers(self, session: aiohttp.ClientSession) -> Headers:
        """Return the header of the next request."""

    async def renewed(self, session: aiohttp.ClientSession, refused: Headers) -> Headers | None:
        """Return another header after ``refused`` was answered with 401; None where there is none."""


class Unauthorized:
    """Sends no credentials."""

    async def headers(self, session: aiohttp.ClientSession) -> Headers:
        return {}

    async def renewed(self, session: aiohttp.ClientSession, refused: Headers) -> Headers | None:
        return None


class FromFiles:
    """User and password, or a token. Files are read for each request, since another program may renew them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read()  # raises now where something is missing

    async def headers(self, session: aiohttp.ClientSession) -> Headers:
        return self._read()

    async def renewed(self, session: aiohttp.ClientSession, refused: Headers) -> Headers | None:
        headers = self._read()
        return headers if headers != refused else None

    def _read(self) -> Headers:
        settings = self._settings
        if settings.fhir_auth == "bearer":
            if settings.fhir_token_file is None:
                raise ConfigurationError(f"{PREFIX}FHIR_TOKEN_FILE is not set: {PREFIX}FHIR_AUTH=bearer needs it")
            return bearer(read_secret_file(f"{PREFIX}FHIR_TOKEN_FILE", settings.fhir_token_file))
        if not settings.fhir_username:
            raise ConfigurationError(f"{PREFIX}FHIR_USERNAME is not set: {PREFIX}FHIR_AUTH=basic needs it")
        password = secret(settings, "fhir_password")
        if password is None:
            raise ConfigurationError(f"{PREFIX}FHIR_PASSWORD (or _FILE) is not set: {PREFIX}FHIR_AUTH=basic needs it")
        pair = base64.b64encode(f"{settings.fhir_username}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}


def bearer(token: str) -> Headers:
    """Make the header of a token. Raises ConfigurationError for text that no header can hold."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(f"{PREFIX}FHIR_AUTH: the token is not valid in an HTTP header")
    return {"Authorization": f"Bearer {token}"}


def authorization(settings: Settings) -> Authorization:
    """Return how the settings say that requests are authorized. Raises ConfigurationError."""
    return Unauthorized() if settings.fhir_auth == "none" else FromFiles(settings)
