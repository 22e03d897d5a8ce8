"""Dead letters of the delivery: the Bundle that the server refused, and the reason, without its content. Pure."""

from dataclasses import dataclass

import orjson

from fhirline.streams.deliver.sending import Refusal
from fhirline.streams.kafka.headers import EVENT_KEY, TENANT, VENDOR, Headers, header, headers
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, RecordPosition
from fhirline.topics.declared import DELIVERY_LETTERS

UNREADABLE = "unreadable-bundle"


@dataclass(frozen=True, slots=True)
class Refused:
    """The subject of a dead letter: the record of a Bundle, or, without a position, entries that a fill has sent."""

    position: RecordPosition | None
    key: bytes
    headers: Headers
    partition: int

    @classmethod
    def of(cls, bundle: ConsumerRecord) -> "Refused":
        return cls(bundle.position, bundle.key or b"", bundle.headers, bundle.partition)

    @classmethod
    def owner(cls, name: str, partition: int) -> "Refused":
        """Name whose current resources were refused, where they came from no Bundle."""
        return cls(None, name.encode(), [], partition)

    def named(self) -> dict[str, str]:
        return {} if self.position is None else {"bundle": str(self.position)}


def refusal_letter(bundle: Refused, refusal: Refusal) -> ProducerRecord:
    """Make the dead letter of a Bundle that the server refused."""
    verdict = refusal.verdict
    value = {
        **bundle.named(),
        "status": verdict.status,
        "issues": [issue.shown() for issue in verdict.issues],
        "serverCodes": list(verdict.server_codes),
        "referring": list(verdict.referring),
        "resources": list(refusal.keys),
    }
    return _letter(bundle, refusal.code, value)


def unreadable_letter(bundle: Refused) -> ProducerRecord:
    """Make the dead letter of a record that is no transaction Bundle."""
    return _letter(bundle, UNREADABLE, {**bundle.named()})


def _letter(bundle: Refused, code: str, value: dict[str, object]) -> ProducerRecord:
    known: Headers = [
        (name, found.encode()) for name in (VENDOR, TENANT, EVENT_KEY) if (found := header(bundle.headers, name))
    ]
    sent = [*known, *headers(**bundle.named(), error_code=code)]
    return ProducerRecord(DELIVERY_LETTERS, bundle.key, orjson.dumps(value), bundle.partition, sent)
