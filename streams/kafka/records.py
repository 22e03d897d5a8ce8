"""Records on their way: what is read from a raw topic, what leaves for the others."""

from dataclasses import dataclass, field

from fhirline.streams.kafka.headers import Headers


@dataclass(frozen=True, slots=True)
class ConsumerRecord:
    """A record of ``raw.<vendor>`` as it was read. ``timestamp_ms`` is the record's own, UNIX milliseconds."""

    vendor: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def coordinates(self) -> str:
        """``topic/partition/offset``, the value of the header ``raw``."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class ProducerRecord:
    """A record to be written. ``partition`` None leaves the choice to the key (murmur2)."""

    topic: str
    key: bytes
    value: bytes | None
    partition: int | None = None
    headers: Headers = field(default_factory=list)
    constant: bool = False
