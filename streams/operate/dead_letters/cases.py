"""A dead letter as its headers tell of it, and what became of it. Pure: no Kafka client, no clock.

Letters of one event belong together as a *case*: the first one, those of later attempts, and repeats of either that a
killed worker wrote again. What they have in common is the raw record that was mapped first: its position is the
case's id. A record that was redriven says them in its header ``first-raw``, which goes on into its letter.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

import orjson

from fhirline.config.vendors import DEFAULT_TENANT
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.normalize import UNKNOWN
from fhirline.mappers.registry import VENDORS, vendor_mapping
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition

_INDEX = re.compile(r"(?<=/)\d+(?=/|$)|(?<=\[)\d+(?=\])")


@dataclass(frozen=True, slots=True)
class Letter:
    """What may be shown of a letter: no key, which names a patient, and no value, of which only ``size`` is known.

    ``received``: when the event was (of a foreign record: its timestamp). ``size``: bytes, None where the letter goes
    without its value. ``redrive``: the idempotency key of the redrive that this letter answers.
    """

    position: RecordPosition
    case: str
    vendor: str
    tenant: str
    raw: RecordPosition | None
    code: str
    path: str
    errors: bytes
    attempt: int
    event_key: str
    event_type: str
    mapping_version: str
    received: Instant | None
    size: int | None
    redrive: str

    @property
    def problems(self) -> list[dict[str, Any]]:
        """The failing paths: code, resource, path, problem; never a value."""
        try:
            listed = orjson.loads(self.errors or b"[]")
        except orjson.JSONDecodeError:
            return []
        return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []

    @property
    def paths(self) -> set[str]:
        return {self.path, *(str(each["path"]) for each in self.problems if each.get("path"))}


class Status(StrEnum):
    """What became of a case."""

    OPEN = "open"
    REDRIVEN = "redriven"
    """Sent again; not mapped yet."""
    FAILED = "failed-again"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Mark:
    """What ``normalizer.dead-letter-status`` holds under a case's id. When: its record's timestamp.

    ``attempts``: how often the event has been mapped, the redriven record counted. ``redriven``: where that lies.
    ``letter``: the case's last letter when the mark was set; one behind it is news.
    """

    status: Status
    attempts: int
    redriven: RecordPosition | None
    letter: RecordPosition
    idempotency_key: str
    mapping_version: str

    def encode(self) -> bytes:
        return orjson.dumps(
            {
                "status": self.status,
                "attempts": self.attempts,
                "redriven": str(self.redriven) if self.redriven else None,
                "letter": str(self.letter),
                "idempotencyKey": self.idempotency_key,
                "mappingVersion": self.mapping_version,
            }
        )

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Raises ValueError where the value is no mark."""
        held = orjson.loads(value)
        try:
            letter = RecordPosition.parse(held["letter"])
            if letter is None:
                raise ValueError("letter is no topic/partition/offset")
            return cls(
                Status(held["status"]),
                int(held["attempts"]),
                RecordPosition.parse(held["redriven"]),
                letter,
                str(held["idempotencyKey"]),
                str(held["mappingVersion"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no dead letter status: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True)
class Case:
    """All letters of one event, and what became of it."""

    id: str
    letters: tuple[Letter, ...]
    mark: Mark | None
    status: Status

    @property
    def last(self) -> Letter:
        return self.letters[-1]

    @property
    def attempts(self) -> int:
        """How often the event has been mapped, a redriven record on its way counted."""
        return max(self.last.attempt, self.mark.attempts if self.mark else 1)

    def answers(self, idempotency_key: str) -> bool:
        """Whether a redrive with this key has sent the event; its letter says so even where no mark was written."""
        marked = self.mark is not None and self.mark.idempotency_key == idempotency_key
        return marked or any(each.redrive == idempotency_key for each in self.letters)


MappingResult = Callable[[Case], bool]
"""Whether the stages that read a case's redriven record have committed offsets beyond it."""


def letter_of(record: ConsumerRecord) -> Letter:
    """Read a letter; whatever is missing or unreadable has a stand-in, so that no letter is ever hidden."""

    def text(name: str) -> str:
        return header(record.headers, name) or ""

    vendor = record.vendor
    raw = RecordPosition.parse(text(headers.RAW))
    first = RecordPosition.parse(text(headers.FIRST_RAW)) or raw or record.position
    attempt = text(headers.ATTEMPT)
    return Letter(
        record.position,
        str(first),
        vendor,
        text(headers.TENANT) or DEFAULT_TENANT,
        raw,
        text(headers.ERROR_CODE) or UNKNOWN,
        text(headers.ERROR_PATH),
        text(headers.ERRORS).encode(),
        int(attempt) if re.fullmatch(r"[1-9]\d{0,8}", attempt) else 1,
        text(headers.EVENT_KEY),
        _event_type(vendor, record.value, header(record.headers, headers.EVENT_TYPE)),
        text(headers.MAPPING_VERSION),
        received(record),
        None if record.value is None else len(record.value),
        text(headers.REDRIVE),
    )


def received(letter: ConsumerRecord) -> Instant | None:
    """When a letter's event was received, as the mapping took it: the header, else the raw record's timestamp."""
    sent = Instant.parse(header(letter.headers, headers.RECEIVED_AT))
    return sent or Instant.from_unix(Decimal(raw_timestamp(letter)) / 1000)


def raw_timestamp(letter: ConsumerRecord) -> int:
    """The raw record's timestamp, UNIX milliseconds; the letter's own where its header is missing."""
    told = header(letter.headers, headers.RAW_TIMESTAMP) or ""
    return int(told) if re.fullmatch(r"\d{1,15}", told) else letter.timestamp_ms


def _event_type(vendor: str, value: bytes | None, route_event: str | None) -> str:
    """The event's type where it is a known one: payload text goes nowhere."""
    if vendor not in VENDORS:
        return UNKNOWN
    declared = vendor_mapping(vendor)
    try:
        body = orjson.loads(value or b"{}")
        found = declared.event_type(body if isinstance(body, dict) else {}, route_event)
    except Exception:  # noqa: BLE001  # this very body may be what our code failed on
        found = route_event
    return found if found and (found in declared.events or found in declared.unmapped) else UNKNOWN


def cases(letters: Iterable[Letter], marks: Mapping[str, Mark], mapped: MappingResult) -> list[Case]:
    """The letters by case, in the order in which they were received, each with its status."""
    collected: defaultdict[str, list[Letter]] = defaultdict(list)
    for letter in letters:
        collected[letter.case].append(letter)
    found = []
    for id, own in collected.items():
        own.sort(key=lambda each: (each.attempt, each.position))
        found.append(_with_status(id, tuple(own), marks.get(id), mapped))
    return sorted(found, key=lambda each: (each.last.received or Instant("", (0, "")), each.id))


def _with_status(id: str, letters: tuple[Letter, ...], mark: Mark | None, mapped: MappingResult) -> Case:
    last = letters[-1]
    case = Case(id, letters, mark, Status.FAILED if last.attempt > 1 else Status.OPEN)
    if mark is None:
        return case
    if mark.status is Status.DONE:
        return case if any(_behind(each.position, mark.letter) for each in letters) else _as(case, Status.DONE)
    if last.attempt >= mark.attempts or mark.status is Status.FAILED:
        return _as(case, Status.FAILED)
    return _as(case, Status.DONE if mapped(case) else Status.REDRIVEN)


def _as(case: Case, status: Status) -> Case:
    return Case(case.id, case.letters, case.mark, status)


def _behind(letter: RecordPosition, known: RecordPosition) -> bool:
    """Letters of a case have one key, so they lie in one partition, in the order in which they were written."""
    return letter.topic_partition == known.topic_partition and letter.offset > known.offset


def shape(path: str) -> str:
    """A path without its indexes: what is wrong in every item of a list is one group."""
    return _INDEX.sub("*", path)
