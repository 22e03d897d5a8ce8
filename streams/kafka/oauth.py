"""Tokens for SASL/OAUTHBEARER: the OAuth 2 client credentials grant, for all three Kafka clients.

A process has one `TokenSource`, which renews its token before it expires. librdkafka asks for a token after four fifths
of the last one's lifetime; kafka-python and aiokafka ask at each connection.
"""

import asyncio
from functools import lru_cache

from aiokafka.abc import AbstractTokenProvider as AiokafkaProvider  # has no types
from kafka.net.sasl.oauth import AbstractTokenProvider as KafkaPythonProvider

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import secret
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.http.tokens import TokenSource, confidential, context_of, secret_in_header


class ForKafkaPython(KafkaPythonProvider):  # type: ignore[misc]  # kafka-python has no types
    """The token provider of kafka-python."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def token(self) -> str:
        return self._source.token()[0]


class ForAiokafka(AiokafkaProvider):  # type: ignore[misc]  # aiokafka has no types
    """The token provider of aiokafka, which Faust passes on. It fetches in a thread, beside the event loop."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def token(self) -> str:
        return (await asyncio.to_thread(self._source.token))[0]


class ForLibrdkafka:
    """The ``oauth_cb`` of librdkafka. An exception becomes the client's authentication error."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    def __call__(self, _: str) -> tuple[str, float]:
        return self._source.token()


@lru_cache(maxsize=8)
def token_source(settings: Settings) -> TokenSource:
    """Return the process's source of tokens. Raises ConfigurationError naming the setting at fault."""
    url, client_id = settings.sasl_oauth_token_url, settings.sasl_oauth_client_id
    has_secret = settings.sasl_oauth_client_secret or settings.sasl_oauth_client_secret_file
    for name, value in (("TOKEN_URL", url), ("CLIENT_ID", client_id), ("CLIENT_SECRET (or _FILE)", has_secret)):
        if not value:
            raise ConfigurationError(f"{PREFIX}SASL_OAUTH_{name} is not set: OAUTHBEARER needs it")
    assert url is not None
    assert client_id is not None
    if not confidential(url):
        raise ConfigurationError(f"{PREFIX}SASL_OAUTH_TOKEN_URL: must be https://..., the client secret is sent there")
    context = context_of(f"{PREFIX}SASL_OAUTH_CA_FILE", settings.sasl_oauth_ca_file)
    secret(settings, "sasl_oauth_client_secret")  # raises now where its file cannot be read

    def client_secret() -> str:
        return secret(settings, "sasl_oauth_client_secret") or ""

    return TokenSource(url, secret_in_header(client_id, client_secret), settings.sasl_oauth_scope, context)
