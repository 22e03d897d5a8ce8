"""Dead letters, joined to cases with a status. Pure: no Kafka client, no clock.

All letters of one event are a *case*: the first one, those of later attempts, and repeats of either that a killed
worker wrote again. The case's id is the position of the raw record that was mapped first. A redriven record has it in
its header ``first-raw``, and so has its letter.
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
from fhirline.mappers.pipeline.body import read_body
from fhirline.mappers.pipeline.normalize import UNKNOWN
from fhirline.mappers.registry import VENDORS, vendor_mapping
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord, RecordPosition

_INDEX = re.compile(r"(?<=/)\d+(?=/|$)|(?<=\[)\d+(?=\])")


@dataclass(frozen=True, slots=True)
class Letter:
    """The part of a letter that may be shown. Its key, which names a patient, and its value are not part of it.

    ``received``: time of the event's receipt; for another producer's record its timestamp. ``size``: bytes of the
    value, None for a letter without one. ``redrive``: idempotency key of the redrive whose event failed again.
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
        """Return the failing paths, each with code, resource, path and problem, and without values."""
        try:
            listed = orjson.loads(self.errors or b"[]")
        except orjson.JSONDecodeError:
            return []
        return [problem for problem in listed if isinstance(problem, dict)] if isinstance(listed, list) else []

    @property
    def paths(self) -> set[str]:
        return {self.path, *(str(problem["path"]) for problem in self.problems if problem.get("path"))}


class Status(StrEnum):
    """The status of a case."""

    OPEN = "open"
    REDRIVEN = "redriven"
    """Sent again, and not mapped yet."""
    FAILED = "failed-again"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Mark:
    """The value of a case's record in ``normalizer.dead-letter-status``, whose key is the case's id.

    ``attempts``: how often the event has been mapped, the redriven record included. ``redriven``: the redriven record's
    position. ``letter``: the case's last letter when the mark was written; a later one makes the case open again.
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
        """Decode a value. Raises ValueError where it is no mark."""
        fields = orjson.loads(value)
        try:
            letter = RecordPosition.parse(fields["letter"])
            if letter is None:
                raise ValueError("letter is not topic/partition/offset")
            return cls(
                Status(fields["status"]),
                int(fields["attempts"]),
                RecordPosition.parse(fields["redriven"]),
                letter,
                str(fields["idempotencyKey"]),
                str(fields["mappingVersion"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a dead letter status: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True)
class Case:
    """All letters of one event, and the event's status."""

    id: str
    letters: tuple[Letter, ...]
    mark: Mark | None
    status: Status

    @property
    def last(self) -> Letter:
        return self.letters[-1]

    @property
    def attempts(self) -> int:
        """Count how often the event was mapped, plus one for a redriven record that is not mapped yet."""
        return max(self.last.attempt, self.mark.attempts if self.mark else 1)

    def answers(self, idempotency_key: str) -> bool:
        """Tell whether a redrive with this key has sent the event, by its mark or, without a mark, by its letter."""
        marked = self.mark is not None and self.mark.idempotency_key == idempotency_key
        return marked or any(letter.redrive == idempotency_key for letter in self.letters)


IsMapped = Callable[[Case], bool]
"""Tells whether the groups that read a case's redriven record have committed offsets after it."""


def letter_of(record: ConsumerRecord) -> Letter:
    """Read a letter's headers. What is missing or unreadable has a default, so that every letter is shown."""

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
    """Return when a letter's event was received: the header that the mapping reads, else the raw record's timestamp."""
    sent = Instant.parse(header(letter.headers, headers.RECEIVED_AT))
    return sent or Instant.from_unix(Decimal(raw_timestamp(letter)) / 1000)


def raw_timestamp(letter: ConsumerRecord) -> int:
    """Return the raw record's timestamp in UNIX milliseconds, or the letter's own where the header is missing."""
    text = header(letter.headers, headers.RAW_TIMESTAMP) or ""
    return int(text) if re.fullmatch(r"\d{1,15}", text) else letter.timestamp_ms


def _event_type(vendor: str, value: bytes | None, route_event: str | None) -> str:
    """Return the event's type if the mapping knows it. Other text of the payload is never shown."""
    if vendor not in VENDORS:
        return UNKNOWN
    declared = vendor_mapping(vendor)
    try:
        found = declared.event_type(read_body(value or b"{}").body, route_event)
    except Exception:  # noqa: BLE001  # this body may be what made the mapping fail
        found = route_event
    return found if found and (found in declared.events or found in declared.unmapped) else UNKNOWN


def cases(letters: Iterable[Letter], marks: Mapping[str, Mark], mapped: IsMapped) -> list[Case]:
    """Join letters to cases, in the order of receipt, each with its status."""
    collected: defaultdict[str, list[Letter]] = defaultdict(list)
    for letter in letters:
        collected[letter.case].append(letter)
    found = []
    for id, own in collected.items():
        own.sort(key=lambda letter: (letter.attempt, letter.position))
        found.append(_with_status(id, tuple(own), marks.get(id), mapped))
    return sorted(found, key=lambda case: (case.last.received or Instant("", (0, "")), case.id))


def _with_status(id: str, letters: tuple[Letter, ...], mark: Mark | None, mapped: IsMapped) -> Case:
    last = letters[-1]
    case = Case(id, letters, mark, Status.FAILED if last.attempt > 1 else Status.OPEN)
    if mark is None:
        return case
    if mark.status is Status.DONE:
        return case if any(_is_after(letter, mark) for letter in letters) else _as(case, Status.DONE)
    if last.attempt >= mark.attempts or mark.status is Status.FAILED:
        return _as(case, Status.FAILED)
    return _as(case, Status.DONE if mapped(case) else Status.REDRIVEN)


def _as(case: Case, status: Status) -> Case:
    return Case(case.id, case.letters, case.mark, status)


def _is_after(letter: Letter, mark: Mark) -> bool:
    """Tell whether a letter was written after the one that its case's mark names.

    Letters of a case have one key, and so are in one partition in the order of writing. But a letter from before
    encryption was on is in another partition than the encrypted ones. Then the numbers of attempts are compared.
    """
    known, own = mark.letter, letter.position
    if own.topic_partition == known.topic_partition:
        return own.offset > known.offset
    return letter.attempt > mark.attempts


def shape(path: str) -> str:
    """Replace the indexes of a path by ``*``, so that a problem of every item of a list is one group.

    >>> shape("/prescriptions/3/dose"), shape("Patient.name[0].family")
    ('/prescriptions/*/dose', 'Patient.name[*].family')
    """
    return _INDEX.sub("*", path)
