"""Client configuration for librdkafka, kafka-python and aiokafka, from the same settings."""

import ssl
from typing import Any

from config.errors import ConfigurationError
from config.settings import Settings


def password(settings: Settings) -> str | None:
    """The SASL password, from the setting or its file."""
    if settings.sasl_password_file:
        try:
            return settings.sasl_password_file.read_text("utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"FHIRLINE_SASL_PASSWORD_FILE: {error.strerror}") from None
    return settings.sasl_password.get_secret_value() if settings.sasl_password else None


def librdkafka(settings: Settings, **more: Any) -> dict[str, Any]:
    """Configuration of a confluent-kafka client. Errors go to ``error_cb`` where the caller gives one."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": settings.security_protocol.lower(),
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": password(settings),
        "ssl.ca.location": settings.ssl_ca_file,
        "ssl.certificate.location": settings.ssl_certificate_file,
        "ssl.key.location": settings.ssl_key_file,
        **more,
    }
    return {
        name: str(value) if hasattr(value, "__fspath__") else value
        for name, value in config.items()
        if value is not None
    }


def producer_config(settings: Settings, **more: Any) -> dict[str, Any]:
    """Every producer of ours (engine.md, rules 5 and 6): idempotent, acks=all, Kafka's own murmur2."""
    return librdkafka(
        settings,
        **{
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "message.max.bytes": settings.message_max_bytes,
            "delivery.timeout.ms": int(settings.delivery_timeout * 1000),
            "compression.type": "lz4",
            **more,
        },
    )


def kafka_python(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of a kafka-python client."""
    config = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password(settings),
        "ssl_cafile": settings.ssl_ca_file and str(settings.ssl_ca_file),
        "ssl_certfile": settings.ssl_certificate_file and str(settings.ssl_certificate_file),
        "ssl_keyfile": settings.ssl_key_file and str(settings.ssl_key_file),
    }
    return {name: value for name, value in config.items() if value is not None}


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """TLS for aiokafka, which wants a context."""
    context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    if settings.ssl_certificate_file:
        context.load_cert_chain(settings.ssl_certificate_file, settings.ssl_key_file)
    return context
