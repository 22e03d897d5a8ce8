"""Parts of a confluent-kafka message that a test asserts on, typed."""

from confluent_kafka import Message

from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import headers_of


def header_of(message: Message, name: str) -> str | None:
    """Return the last value of a header as text; None if it is missing, empty or not UTF-8."""
    return header(headers_of(message), name)


def text_headers(message: Message) -> dict[str, str]:
    """Return all headers as text; each name may occur once."""
    sent = headers_of(message)
    assert len(dict(sent)) == len(sent), f"a header occurs twice: {sent}"
    return {name: value.decode() for name, value in sent}


def key_of(message: Message) -> bytes:
    """Return the key of a record that must have one."""
    key = message.key()
    assert key is not None, f"a record without key on {message.topic()}"
    return key


def value_of(message: Message) -> bytes:
    """Return the value of a record that must not be a tombstone."""
    value = message.value()
    assert value is not None, f"a tombstone on {message.topic()}"
    return value
