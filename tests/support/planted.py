"""Events with long marks in patients' names, phone numbers and texts, by which one finds what is in clear somewhere.

Values of the golden cases are short or in code tables, and may lie elsewhere by chance or on purpose.
"""

import copy
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import orjson

from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import enriched_topic
from tests.support.cases import cases
from tests.support.workload import PATIENTS, events, is_enriched, of_patient

TEXT, DIGITS = "plantedxqzvj", "8887770099"
"""With what every mark begins. A search in lower case for these two finds all."""

_NAMES = frozenset({"firstname", "middlename", "lastname", "full_name", "patientname"})
_PHONES = frozenset({"phone", "mobilenumber", "patientmobilenumber"})
_TEXTS = frozenset(
    {
        "additional_comment",
        "answer",
        "assessment",
        "body",
        "cancellationreason",
        "chiefcomplaint",
        "description",
        "note",
    }
    | {"objective", "plan", "posology", "specialinstructions", "subjective", "symptom", "text"}
)
_OF_PROFESSIONALS = frozenset({"doctor", "participants", "professional", "professionals", "provider", "providers"})
"""Fields whose contents belong to no patient: they stay in clear on purpose."""


def planted_events(number: int, seed: int) -> Iterator[ProducerRecord]:
    """Yield `events`, and the enriched events of all cases; all marked."""
    numbers = count(1)
    for event in events(number, seed):
        yield _again(event, orjson.dumps(marked(orjson.loads(event.value or b""), numbers)))
    enriched = ((case, body) for case in cases() for body in case.events if is_enriched(body))
    for patient, (case, body) in enumerate(enriched):
        at = Instant.parse(case.received_at)
        assert at is not None
        made = marked(of_patient(copy.deepcopy(body), PATIENTS + patient), numbers)
        record = raw_record(case.vendor, "acme", orjson.dumps(made), at, case.route_event, 64)
        yield ProducerRecord(enriched_topic(case.vendor), record.key, record.value, None, record.headers)


def marked(value: Any, numbers: Iterator[int], key: str = "") -> Any:
    """Return a body with a mark in each field of a patient's name, phone number or text, and three in each patient."""
    if isinstance(value, dict):
        found = {name: marked(item, numbers, name.lower()) for name, item in value.items() if not professional(name)}
        more = {"name": _text(numbers), "phone": _phone(numbers), "text": _text(numbers)} if key == "patient" else {}
        return {**value, **more, **found}
    if isinstance(value, list):
        return [marked(item, numbers, key) for item in value]
    if not isinstance(value, str) or not value:
        return value
    if key in _PHONES:
        return _phone(numbers)
    return f"{value} {_text(numbers)}" if key in _NAMES | _TEXTS else value


def professional(name: str) -> bool:
    return name.lower() in _OF_PROFESSIONALS


def shows(content: bytes) -> bool:
    """Tell whether bytes have a mark."""
    lower = content.lower()
    return TEXT.encode() in lower or DIGITS.encode() in lower


def showing(records: Iterable[ConsumerRecord]) -> list[str]:
    """Return the positions of records that have a mark in key, value or a header."""
    return [
        str(record.position)
        for record in records
        if shows(b"\n".join([record.key or b"", record.value or b"", *(value for _, value in record.headers)]))
    ]


def _again(event: ProducerRecord, body: bytes) -> ProducerRecord:
    sent = {name: value.decode() for name, value in event.headers}
    at = Instant.parse(sent["received-at"])
    assert at is not None
    return raw_record(event.topic.split(".")[1], sent["tenant"], body, at, sent.get("event-type"), 64)


def _text(numbers: Iterator[int]) -> str:
    return f"{TEXT}{next(numbers):06}"


def _phone(numbers: Iterator[int]) -> str:
    return f"+{DIGITS}{next(numbers):06}"
