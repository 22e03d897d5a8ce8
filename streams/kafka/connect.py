"""Whether Kafka can be reached as the settings say; where not, one line that says why and which settings to look at.

librdkafka goes on trying for ever, with wrong credentials too: right for a broker that is away, of no use to somebody
who mistyped a password. So each process asks once, at its start, and the causes that no waiting mends end it.
"""

import logging
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from fhirline.config.errors import ConfigurationError, KafkaDenied, KafkaUnreachable
from fhirline.config.settings import PREFIX, Settings
from fhirline.streams.kafka.clients import librdkafka, ssl_context, uses_oauth

REFUSED = {
    KafkaError._AUTHENTICATION: "SASL_MECHANISM, its user and secret",
    KafkaError._SSL: "SECURITY_PROTOCOL, SSL_CA_FILE and the host names in the brokers' certificates",
}
"""Errors that no waiting mends → the settings to look at."""

HUNG_UP = "in state APIVERSION_QUERY"
"""Of what librdkafka only logs: the peer closed the connection instead of answering the first question."""

HUNG_UP_OFTEN = 5
"""Once or twice may be a broker that stops or starts; a listener of TLS always does it to who does not speak TLS."""

PLAINTEXT_LISTENER = "PLAINTEXT broker listener"
"""Of librdkafka's words for a listener that answers a TLS hello by hanging up."""

ATTEMPT = 0.25
"""Seconds between two looks at what librdkafka has found out."""


def connect(settings: Settings, timeout: float) -> ClusterMetadata:
    """The cluster's brokers, and the topics that this user may see. Raises ConfigurationError or KafkaAccessError."""
    if settings.security_protocol.endswith("SSL"):
        ssl_context(settings)  # names the file that is missing or none; librdkafka's words do not
    if uses_oauth(settings):
        from fhirline.streams.kafka.oauth import TokenRefused, token_source

        try:
            token_source(settings).token()  # librdkafka would only say that there is none after ten seconds
        except TokenRefused as error:
            raise KafkaDenied(f"{PREFIX}SASL_OAUTH_TOKEN_URL: {error}") from None
    errors: list[KafkaError] = []
    logged = _Lines()
    logger = logging.Logger("librdkafka.connect")
    logger.addHandler(logged)
    try:
        client = AdminClient(librdkafka(settings, **{"error_cb": errors.append}), logger=logger)
    except KafkaException as error:
        # Its words may quote a setting's value, but for a secret's.
        raise ConfigurationError(f"Kafka client settings: {_words(error.args[0])}") from None
    until = time.monotonic() + timeout
    while True:
        left = until - time.monotonic()
        try:
            return client.list_topics(timeout=max(0.01, min(ATTEMPT, left)))
        except KafkaException as error:
            last = error.args[0]
        client.poll(0)
        for each in errors:
            if each.code() in REFUSED:
                raise KafkaDenied(
                    f"{PREFIX}BOOTSTRAP: {settings.bootstrap} refused the connection: {_words(each)} "
                    f"(look at {PREFIX}{REFUSED[each.code()]})"
                )
        hung_up = sum(HUNG_UP in line for line in logged.lines)
        if hung_up >= HUNG_UP_OFTEN or any(PLAINTEXT_LISTENER in each.str() for each in errors):
            raise ConfigurationError(
                f"{PREFIX}BOOTSTRAP: {settings.bootstrap} hung up: it seems to speak another protocol than "
                f"{settings.security_protocol} ({PREFIX}SECURITY_PROTOCOL)"
            )
        if left <= 0:
            break
    told = [each for each in errors if each.code() != KafkaError._ALL_BROKERS_DOWN] or [last]
    raise KafkaUnreachable(
        f"{PREFIX}BOOTSTRAP: no Kafka broker answered at {settings.bootstrap} within {timeout:g} s: {_words(told[-1])} "
        f"(is it running, and are {PREFIX}SECURITY_PROTOCOL and the SASL settings its own?)"
    )


class _Lines(logging.Handler):
    """Keeps what librdkafka logs, and shows it nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _words(error: KafkaError) -> str:
    """librdkafka's own, without the address of each broker's thread in front and how often it has tried behind."""
    text = error.str().replace("\n", " ")
    return text.partition(" (after ")[0]
