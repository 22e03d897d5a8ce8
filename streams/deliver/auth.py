"""Authorization of requests: none, user and password, a token file, or OAuth 2 (fhir-delivery.md §6)."""

import asyncio
import base64
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Protocol

import structlog

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import read_secret_file, secret
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.http.client_assertion import read_key, signed_assertion
from fhirline.streams.http.tokens import (
    Headers,
    TokenSource,
    confidential,
    context_of,
    secret_in_form,
    secret_in_header,
    token_endpoint,
)

log = structlog.get_logger("deliver")

OAUTH = f"{PREFIX}FHIR_OAUTH_"
BEARER = "Bearer "


class Authorization(Protocol):
    """Makes the header ``Authorization`` of requests. Raises ConfigurationError or TokenRefused."""

    async def headers(self) -> Headers:
        """Return the header of the next request."""

    async def renewed(self, refused: Headers) -> Headers | None:
        """Return another header after ``refused`` was answered with 401; None where there is none."""


class Unauthorized:
    """Sends no credentials."""

    async def headers(self) -> Headers:
        return {}

    async def renewed(self, refused: Headers) -> Headers | None:
        return None


class FromFiles:
    """User and password, or a token. Files are read for each request, since another program may renew them.

    While it does, a file may be empty or away for a moment: what was read last is sent, and the server decides.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last = self._read()  # raises now where something is missing

    async def headers(self) -> Headers:
        with suppress(ConfigurationError):
            self._last = self._read()
        return self._last

    async def renewed(self, refused: Headers) -> Headers | None:
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
    return {"Authorization": f"{BEARER}{token}"}


class ByTokens:
    """Sends tokens of OAuth 2 client credentials, which it renews before they expire. Raises TokenRefused."""

    def __init__(self, settings: Settings) -> None:
        self._source = token_source(settings)
        self._fetching = asyncio.Lock()

    async def headers(self) -> Headers:
        token = self._source.held()
        return bearer(token) if token is not None else await self._fetched()

    async def renewed(self, refused: Headers) -> Headers | None:
        return await self._fetched(refused["Authorization"].removeprefix(BEARER))

    async def _fetched(self, refused: str | None = None) -> Headers:
        async with self._fetching:  # one thread at a time waits for the endpoint
            token, _ = await asyncio.to_thread(self._source.token, refused)
        return bearer(token)


def token_source(settings: Settings) -> TokenSource:
    """Return the source of the FHIR server's tokens. Raises ConfigurationError naming the setting at fault."""
    client_id = settings.fhir_oauth_client_id
    if not client_id:
        raise missing(settings, "CLIENT_ID")
    if settings.fhir_auth == "private_key_jwt":
        if not settings.fhir_oauth_scope:
            raise missing(settings, "SCOPE", " (such as system/*.cruds)")
        if settings.fhir_oauth_key_file is None:
            raise missing(settings, "KEY_FILE")
        read = partial(
            read_key,
            f"{OAUTH}KEY_FILE",
            settings.fhir_oauth_key_file,
            f"{OAUTH}KEY_ID",
            settings.fhir_oauth_key_id,
        )
        read()  # raises now where something is wrong
        authenticate = signed_assertion(client_id, read)
    else:
        if not secret(settings, "fhir_oauth_client_secret"):
            raise missing(settings, "CLIENT_SECRET (or _FILE)")
        by = secret_in_form if settings.fhir_auth == "client_secret_post" else secret_in_header
        authenticate = by(client_id, lambda: secret(settings, "fhir_oauth_client_secret") or "")
    context = context_of(f"{OAUTH}CA_FILE", settings.fhir_oauth_ca_file)
    return TokenSource(_endpoint(settings), authenticate, settings.fhir_oauth_scope, context)


def _endpoint(settings: Settings) -> str | Callable[[], str]:
    """Return the token endpoint, or the function that discovers it at the first request. Raises ConfigurationError."""
    if (url := settings.fhir_oauth_token_url) is not None:
        if not confidential(url):
            raise ConfigurationError(f"{OAUTH}TOKEN_URL: must be https://..., the client authenticates itself there")
        return url
    if settings.fhir_server is None:
        raise ConfigurationError(f"{PREFIX}FHIR_SERVER is not set: the base URL of the FHIR server (or --server)")
    server = f"{settings.fhir_server}/.well-known/smart-configuration"
    if not confidential(server):
        raise ConfigurationError(f"{OAUTH}TOKEN_URL is not set, and an http:// server cannot be trusted to name it")
    return cache(partial(token_endpoint, server, context_of(f"{PREFIX}FHIR_CA_FILE", settings.fhir_ca_file)))


def missing(settings: Settings, name: str, hint: str = "") -> ConfigurationError:
    return ConfigurationError(f"{OAUTH}{name} is not set{hint}: {PREFIX}FHIR_AUTH={settings.fhir_auth} needs it")


def authorization(settings: Settings) -> Authorization:
    """Return the authorization that the settings choose. Raises ConfigurationError."""
    if settings.fhir_auth == "none":
        return Unauthorized()
    if settings.fhir_server is not None and not confidential(settings.fhir_server):
        log.warning("credentials are sent without TLS", server=settings.fhir_server, remedy="an https:// base URL")
    return FromFiles(settings) if settings.fhir_auth in ("basic", "bearer") else ByTokens(settings)
