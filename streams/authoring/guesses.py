"""Guesses of the fields that route a vendor's events: type, patient and time; and of values that look like secrets.

A guess is made from the names and values of the samples. It is printed with its reason, so that the author can correct
it with an option.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fhirline.config.errors import ConfigurationError
from fhirline.config.tables import secrets
from fhirline.mappers.instants import Instant
from fhirline.mappers.json_pointer import escape, leaves_of, parts, value_at
from fhirline.mappers.pipeline.redaction.credentials import secret_value
from fhirline.mappers.pipeline.redaction.keys import secret_key
from fhirline.mappers.pipeline.redaction.redact import redact
from fhirline.mappers.routing import text_at
from fhirline.streams.authoring.names import snake, words
from fhirline.streams.authoring.samples import Sample

EVENT_NAMES = (
    "event_type event_name event type webhook_event webhook_type message_type notification_type topic action trigger "
    "kind"
).split()
TIME_NAMES = (
    "event_time event_timestamp event_date sent_at occurred_at occurred_on occurred happened_at emitted_at timestamp "
    "sent created_at created updated_at triggered_at published_at date_time datetime time date ts"
).split()
PERSONS = "patient user member client customer person beneficiary subject".split()
KEYS = "id uuid guid code key number no nr reference ref mrn".split()

_EVENT = re.compile(r"[^\x00-\x1f\x7f`|]{1,100}")
_YEAR_2000, _YEAR_2100 = 946_684_800, 4_102_444_800


@dataclass(frozen=True, slots=True)
class Guess:
    """The pointers of one routing value, and why. ``guessed`` is False where an option named them."""

    pointers: tuple[str, ...]
    reason: str
    guessed: bool = True


_WORDS = frozenset({"pin", "otp", "pwd", "pw", "jwt", "mfa", "bearer"})
"""Words of keys that are a secret's by themselves (``withheld.exact`` of the table), and may be part of one's name."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that looks like a secret. ``redacted``: config/secrets.yaml redacts its key already.

    ``withheld``: no resource would hold it. One that is not withheld only has a key like a secret's.
    """

    pointer: str
    reason: str
    redacted: bool
    withheld: bool = True


def scalars(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (pointer, value) of the texts and numbers of a body that are in no list."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from scalars(item, f"{pointer}/{escape(key)}")
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield pointer, value


def event_field(samples: Sequence[Sample]) -> Guess:
    """Guess which field names the type of an event; raise ConfigurationError where no field can."""
    values: dict[str, list[str]] = {}
    for sample in samples:
        for pointer, value in scalars(sample.body):
            if isinstance(value, str) and _EVENT.fullmatch(value):
                values.setdefault(pointer, []).append(value)
    whole = {pointer: found for pointer, found in values.items() if len(found) == len(samples)}
    named = [pointer for pointer in whole if _name(pointer) in EVENT_NAMES and pointer.count("/") <= 2]
    if not named:
        shown = ", ".join([*whole][:10]) or "none"
        raise ConfigurationError(
            "--event-field: no field is named like an event's type; give its JSON Pointer "
            f"(texts that every sample has: {shown})"
        )

    def rank(pointer: str) -> tuple[bool, int, int]:
        return len(set(whole[pointer])) == 1, pointer.count("/"), EVENT_NAMES.index(_name(pointer))

    best = min(named, key=rank)
    different = len(set(whole[best]))
    values_of_all = f" with {different} different values" if different > 1 else ", always with one value"
    reason = f"{_samples(len(samples))}{values_of_all if len(samples) > 1 else ''}"
    return Guess((best,), f"a text of this name in {reason}{_others(best, named)}")


def patient_field(samples: Sequence[Sample]) -> Guess:
    """Guess which fields hold the vendor's id of the patient; without pointers where none seems to."""

    def rank(pointer: str, value: Any) -> tuple[int, ...] | None:
        if isinstance(value, str) and not re.fullmatch(r"\S{1,100}", value):
            return None
        *above, name = map(snake, parts(pointer))
        for position, person in enumerate(PERSONS):
            for place, key in enumerate(KEYS):
                if name == f"{person}_{key}":
                    return position, place, 0, len(above)
                if name == key and above and above[-1] in (person, f"{person}s"):
                    return position, place, 1, len(above)
            if name == person:
                return position, len(KEYS), 0, len(above)
        return None

    nothing = "no field is named like a patient's id"
    found = _cover(samples, rank, "named like a patient's id", nothing)
    if found.pointers:
        return found
    common = set.intersection(*({pointer for pointer, _ in scalars(sample.body)} for sample in samples))
    shown = [pointer for pointer, _ in scalars(samples[0].body) if pointer in common][:10]
    return Guess((), f"{nothing}; texts and numbers that every sample has: {', '.join(shown) or 'none'}")


def time_field(samples: Sequence[Sample]) -> Guess:
    """Guess which fields hold the time of the event; without pointers where no value is a time with a zone."""
    without_zone: dict[str, None] = {}

    def rank(pointer: str, value: Any) -> tuple[int, ...] | None:
        name = _name(pointer)
        if name not in TIME_NAMES or pointer.count("/") > 2:
            return None
        number = value if isinstance(value, int | float) else 0
        if Instant.parse(value) or _YEAR_2000 <= number < _YEAR_2100 or _YEAR_2000 <= number / 1000 < _YEAR_2100:
            return 0, pointer.count("/"), TIME_NAMES.index(name)
        if isinstance(value, str) and re.match(r"\d{4}-\d{2}-\d{2}", value):
            without_zone[pointer] = None
        return None

    nothing = "no field is named like an event's time and has a zone; events are ordered by their receipt"
    found = _cover(samples, rank, "named like an event's time, with a zone", nothing)
    if without_zone and not found.pointers:
        return Guess((), f"{nothing} (without a zone: {', '.join(without_zone)})")
    return found


def given(option: str, pointers: Sequence[str], samples: Sequence[Sample]) -> Guess:
    """Check the pointers of an option; raise ConfigurationError where no sample has a text or number there."""
    for pointer in pointers:
        if not pointer.startswith("/"):
            raise ConfigurationError(f"{option}: {pointer!r} is no JSON Pointer; it begins with /, as in /patient/id")
        if not any(pointer == found for sample in samples for found, _ in scalars(sample.body)):
            below = any(value_at(sample.body, pointer) is not None for sample in samples)
            reason = "what is there is no text or number, or is in a list" if below else "no sample has a value there"
            raise ConfigurationError(f"{option}: {pointer}: {reason}")
    return Guess(tuple(pointers), "as given", guessed=False)


def by_event(samples: Sequence[Sample], pointer: str) -> dict[str, list[Sample]]:
    """Group samples by event type; raise ConfigurationError where a sample has none."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        event = text_at(sample.body, pointer)
        if event is None or not _EVENT.fullmatch(event):
            raise ConfigurationError(f"--event-field: {sample.origin}: {pointer} does not hold the name of an event")
        found.setdefault(event, []).append(sample)
    return found


def find_secrets(samples: Sequence[Sample], used: Collection[str]) -> list[Secret]:
    """Find values that look like secrets by config/secrets.yaml, except at the pointers that are ``used``."""
    found: dict[str, Secret] = {}
    for sample in samples:
        redacted = redact(sample.body)
        for pointer, value in leaves_of(sample.body):
            keys = [part for part in parts(pointer) if secret_key(part)]
            place = re.sub(r"/\d+(?=/|$)", "/*", pointer)
            if place in used or value in (None, "", [], {}):
                continue
            if keys:
                found.setdefault(place, Secret(place, f"its key {keys[-1]!r}", value_at(redacted, pointer) != value))
            elif secret_value(value, parts(pointer)[-1]):
                marks = [mark for mark in secrets().withheld.value_contains if mark in value]
                reason = f"its value contains {marks[0]!r}" if marks else "its value looks like a credential"
                found.setdefault(place, Secret(place, reason, False))
            elif word := next((word for part in parts(pointer) for word in words(part) if word in _WORDS), None):
                found.setdefault(place, Secret(place, f"its key has the word {word!r}", False, False))
    return list(found.values())


def _cover(
    samples: Sequence[Sample], rank: Callable[[str, Any], tuple[int, ...] | None], reason: str, nothing: str
) -> Guess:
    """Choose pointers until each sample has one of them, if possible.

    The best is the one with the least first rank, then the one in most samples, then the one with the least further
    ranks. A pointer for which ``rank`` returns None is not considered.
    """
    ranks: dict[str, tuple[int, ...]] = {}
    having: dict[str, set[int]] = {}
    for number, sample in enumerate(samples):
        for pointer, value in scalars(sample.body):
            if (found := rank(pointer, value)) is not None:
                ranks[pointer] = found
                having.setdefault(pointer, set()).add(number)
    chosen: list[str] = []
    left = set(range(len(samples)))
    while candidates := [pointer for pointer in having if having[pointer] & left]:
        best = min(
            candidates, key=lambda pointer: (ranks[pointer][0], -len(having[pointer] & left), ranks[pointer][1:])
        )
        chosen.append(best)
        left -= having[best]
    if not chosen:
        return Guess((), nothing)
    where = f"{len(samples) - len(left)} of {len(samples)} samples" if left else _samples(len(samples))
    return Guess(tuple(chosen), f"{reason}, in {where}{_others(chosen[0], [*having.keys() - {*chosen}])}")


def _name(pointer: str) -> str:
    return snake(parts(pointer)[-1])


def _samples(number: int) -> str:
    return "the sample" if number == 1 else f"all {number} samples"


def _others(chosen: str, named: Collection[str]) -> str:
    others = [pointer for pointer in named if pointer != chosen]
    return f" (others: {', '.join(sorted(others)[:5])})" if others else ""


def first_in(pointers: Sequence[str], samples: Sequence[Sample]) -> str | None:
    """Return the first pointer at which a sample has a text or number."""
    found = {pointer for sample in samples for pointer, _ in scalars(sample.body)}
    return next((pointer for pointer in pointers if pointer in found), None)
