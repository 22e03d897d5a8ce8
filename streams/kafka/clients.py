"""Client configuration for librdkafka, kafka-python and aiokafka, from the same settings."""

import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fhirline.config.errors import ConfigurationError
from fhirline.config.secret import secret
from fhirline.config.settings import PREFIX, Settings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from faust.types.auth import CredentialsT

Client = TypeVar("Client")

LOGGER = logging.getLogger("librdkafka")
"""The logger of librdkafka's own lines, which would otherwise go to standard error without structure."""

CONNECTION_ERRORS = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE")

OAUTHBEARER = "OAUTHBEARER"


def uses_oauth(settings: Settings) -> bool:
    return sasl_mechanism(settings) == OAUTHBEARER


def sasl_mechanism(settings: Settings) -> str | None:
    """Return the SASL mechanism, None without SASL. Raises ConfigurationError where settings contradict each other.

    Checked here for all three clients, each of which reports an incomplete configuration late and in its own words.
    """
    if not settings.security_protocol.startswith("SASL"):
        if settings.sasl_mechanism is not None:
            raise ConfigurationError(
                f"{PREFIX}SASL_MECHANISM is set, but {PREFIX}SECURITY_PROTOCOL is {settings.security_protocol}: "
                "set SASL_SSL, or unset the mechanism"
            )
        return None
    if settings.sasl_mechanism is None:
        raise ConfigurationError(f"{PREFIX}SASL_MECHANISM is not set: {settings.security_protocol} needs it")
    if settings.sasl_mechanism != OAUTHBEARER:
        if not settings.sasl_username:
            raise ConfigurationError(f"{PREFIX}SASL_USERNAME is not set: {settings.sasl_mechanism} needs it")
        if not password(settings):
            raise ConfigurationError(f"{PREFIX}SASL_PASSWORD (or _FILE) is not set: {settings.sasl_mechanism} needs it")
    return settings.sasl_mechanism


def password(settings: Settings) -> str | None:
    """Return the SASL password, from the setting or its file; None for mechanisms without one."""
    return None if settings.sasl_mechanism == OAUTHBEARER else secret(settings, "sasl_password")


def librdkafka(settings: Settings, **more: Any) -> dict[str, Any]:
    """Build the configuration of a confluent-kafka client; ``more`` adds to it and overrides it."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": settings.security_protocol.lower(),
        "sasl.mechanism": sasl_mechanism(settings),
        "sasl.username": settings.sasl_username,
        "sasl.password": password(settings),
        "ssl.ca.location": settings.ssl_ca_file,
        "ssl.certificate.location": settings.ssl_certificate_file,
        "ssl.key.location": settings.ssl_key_file,
        "ssl.key.password": secret(settings, "ssl_key_password"),
        **more,
    }
    if uses_oauth(settings):
        from fhirline.streams.kafka.oauth import ForLibrdkafka, token_source

        config["oauth_cb"] = ForLibrdkafka(token_source(settings))
    return {
        name: str(value) if hasattr(value, "__fspath__") else value
        for name, value in config.items()
        if value is not None
    }


def new_client(kind: Callable[..., Client], config: dict[str, Any], logger: logging.Logger = LOGGER) -> Client:
    """Create a confluent-kafka client (Producer, Consumer, AdminClient) that logs to ``logger``.

    All clients are made here. One without a logger writes its lines to standard error, not as JSON.
    """
    return kind(config, logger=logger)


def log_error(error: "KafkaError") -> None:
    """Log an error that concerns no record (a refused credential, a fatal state). For a client's ``error_cb``.

    librdkafka logs lost connections itself.
    """
    if error.name() not in CONNECTION_ERRORS:
        LOGGER.warning("%s [%s] %s", error.name(), "fatal" if error.fatal() else "error", error.str())


def producer_config(settings: Settings, **more: Any) -> dict[str, Any]:
    """Build the configuration of a producer: idempotent, acks=all, Kafka's own murmur2 (faust.md §2.5, §2.9).

    Each broker has one request at a time in flight. With several, the first records of a producer may be lost, or stuck
    until they time out, while a partition changes its leader (`streams.kafka.delivery_report`). The cost is measured in
    benchmarks/NOTES.md.
    """
    return librdkafka(
        settings,
        **{
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 1,
            "acks": "all",
            "partitioner": "murmur2_random",
            "message.max.bytes": settings.message_max_bytes,
            "delivery.timeout.ms": int(settings.delivery_timeout * 1000),
            "compression.type": "lz4",
            **more,
        },
    )


def kafka_python(settings: Settings) -> dict[str, Any]:
    """Build the keyword arguments of a kafka-python client."""
    config = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": sasl_mechanism(settings),
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password(settings),
        "ssl_context": ssl_context(settings) if settings.security_protocol.endswith("SSL") else None,
    }
    if uses_oauth(settings):
        from fhirline.streams.kafka.oauth import ForKafkaPython, token_source

        config["sasl_oauth_token_provider"] = ForKafkaPython(token_source(settings))
    return {name: value for name, value in config.items() if value is not None}


def faust_credentials(settings: Settings) -> "CredentialsT | None":
    """Build the credentials that Faust passes to aiokafka; None for PLAINTEXT."""
    import faust

    if settings.security_protocol == "PLAINTEXT":
        return None
    context = ssl_context(settings) if settings.security_protocol.endswith("SSL") else None
    if not settings.security_protocol.startswith("SASL"):
        return faust.SSLCredentials(context=context)
    if uses_oauth(settings):
        from fhirline.streams.kafka.oauth import ForAiokafka, token_source

        return faust.OAuthCredentials(oauth_cb=ForAiokafka(token_source(settings)), ssl_context=context)
    return faust.SASLCredentials(
        username=settings.sasl_username or "",
        password=password(settings) or "",
        ssl_context=context,
        mechanism=settings.sasl_mechanism,
    )


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """Build the TLS context of kafka-python and aiokafka. The brokers' certificates and host names are always checked.

    Raises ConfigurationError naming the file that is missing or unusable.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"{PREFIX}SSL_CA_FILE: {error.strerror or 'no PEM certificates'}") from None
    if settings.ssl_certificate_file:
        key_password = secret(settings, "ssl_key_password")
        try:
            context.load_cert_chain(settings.ssl_certificate_file, settings.ssl_key_file, lambda: key_password or "")
        except OSError as error:
            raise ConfigurationError(
                f"{PREFIX}SSL_CERTIFICATE_FILE, {PREFIX}SSL_KEY_FILE: {error.strerror or 'no certificate and its key'}"
            ) from None
    return context
