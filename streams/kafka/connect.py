"""The first connection of a process: where it fails, one line with the reason and the settings to check.

librdkafka retries forever, also with wrong credentials. That suits a broker that restarts, and not a mistyped password.
So each process connects once at its start, and ends where waiting would not help.
"""

import logging
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from fhirline.config.errors import ConfigurationError, KafkaDenied, KafkaUnreachable
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.clients import librdkafka, new_client, ssl_context, uses_oauth

REFUSED = {
    KafkaError._AUTHENTICATION: "SASL_MECHANISM, its user and secret",
    KafkaError._SSL: "SECURITY_PROTOCOL, SSL_CA_FILE and the host names in the brokers' certificates",
}
"""Errors that waiting does not resolve → the settings to check."""

HUNG_UP = "in state APIVERSION_QUERY"
"""Part of a line that librdkafka only logs: the peer closed the connection instead of answering the first request."""

HUNG_UP_OFTEN = 5
"""Hang-ups that mean a wrong protocol: a starting or stopping broker hangs up once or twice, a TLS listener always."""

PLAINTEXT_LISTENER = "PLAINTEXT broker listener"
"""Part of librdkafka's error for a listener that hangs up on a TLS handshake."""

ATTEMPT_SECONDS = 0.25
"""Duration of the first attempt: short, so that a refusal is reported at once. Each further attempt takes twice as
long, up to `LONGEST_ATTEMPT_SECONDS`."""

LONGEST_ATTEMPT_SECONDS = 4.0
"""Longest attempt. A large cluster far away, or a busy machine, needs longer than the first attempt for one answer."""


def connect(settings: Settings, timeout: float) -> ClusterMetadata:
    """Return the cluster's brokers, and the topics this user may see, within ``timeout`` seconds.

    Raises ConfigurationError, KafkaDenied or KafkaUnreachable.
    """
    if settings.security_protocol.endswith("SSL"):
        ssl_context(settings)  # names the file at fault, which librdkafka does not
    if uses_oauth(settings):
        from fhirline.streams.http.tokens import TokenRefused
        from fhirline.streams.kafka.oauth import token_source

        try:
            token_source(settings).token()  # librdkafka reports no reason, and that after 10 s
        except TokenRefused as error:
            raise KafkaDenied(f"{PREFIX}SASL_OAUTH_TOKEN_URL: {error}") from None
    errors: list[KafkaError] = []
    logged = _Lines()
    logger = logging.Logger("librdkafka.connect")
    logger.addHandler(logged)
    try:
        client = new_client(AdminClient, librdkafka(settings, **{"error_cb": errors.append}), logger)
    except KafkaException as error:
        # The message may quote the value of a setting, never of a secret.
        raise ConfigurationError(f"Kafka client settings: {_text(error.args[0])}") from None
    until = time.monotonic() + timeout
    attempt = ATTEMPT_SECONDS
    while True:
        left = until - time.monotonic()
        try:
            return client.list_topics(timeout=max(0.01, min(attempt, left)))
        except KafkaException as error:
            last = error.args[0]
        attempt = min(2 * attempt, LONGEST_ATTEMPT_SECONDS)
        client.poll(0)
        for reported in errors:
            if reported.code() in REFUSED:
                raise KafkaDenied(
                    f"{PREFIX}BOOTSTRAP: {settings.bootstrap} refused the connection: {_text(reported)} "
                    f"(check {PREFIX}{REFUSED[reported.code()]})"
                )
        hung_up = sum(HUNG_UP in line for line in logged.lines)
        if hung_up >= HUNG_UP_OFTEN or any(PLAINTEXT_LISTENER in error.str() for error in errors):
            raise ConfigurationError(
                f"{PREFIX}BOOTSTRAP: {settings.bootstrap} closed the connection: it seems to speak another protocol "
                f"than {settings.security_protocol} ({PREFIX}SECURITY_PROTOCOL)"
            )
        if left <= 0:
            break
    specific = [error for error in errors if error.code() != KafkaError._ALL_BROKERS_DOWN] or [last]
    raise KafkaUnreachable(
        f"{PREFIX}BOOTSTRAP: no Kafka broker answered at {settings.bootstrap} within {timeout:g} s: "
        f"{_text(specific[-1])} (is it running, and do {PREFIX}SECURITY_PROTOCOL and the SASL settings match it?)"
    )


class _Lines(logging.Handler):
    """Collects librdkafka's log lines without printing them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _text(error: KafkaError) -> str:
    """Return librdkafka's message without its line breaks and its count of attempts."""
    text = error.str().replace("\n", " ")
    return text.partition(" (after ")[0]
