"""The mix of events that every benchmark uses: synthetic, seeded, as the vendors send them.

40 % Altibbi status, 25 % Altibbi recommendation, 20 % MediQuo consultation, 10 % MediQuo report, 5 % Infermedica and
Azodha. Consultations progress as they would: a status follows the one before it, a recommendation follows a
consultation in progress, a report the consultation of a patient. One patient in about four events is new. The bodies
themselves are in `benchmarks.bodies`.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import orjson

from benchmarks.bodies import altibbi, azodha, infermedica, mediquo
from benchmarks.bodies.world import Body, World
from fhirline.mappers.instants import Instant
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record

SEED = 20260101
TENANT = "acme"
MAX_DEPTH = 64
BEGIN = datetime(2026, 1, 5, 8, tzinfo=UTC)
EVERY = timedelta(milliseconds=40)

SHARES = {
    ("altibbi", "status"): 40,
    ("altibbi", "recommendation"): 25,
    ("mediquo", "consultation"): 20,
    ("mediquo", "report"): 10,
    ("infermedica", "survey"): 2,
    ("azodha", "appointment"): 1,
    ("azodha", "survey"): 1,
    ("azodha", "file"): 1,
}
"""Percent of each (vendor, kind)."""


@lru_cache(maxsize=2)
def mix(count: int, seed: int = SEED) -> tuple[ProducerRecord, ...]:
    """``count`` raw records of the mix; the same for the same seed."""
    return tuple(
        raw_record(event.vendor, TENANT, event.body, event.at, None, MAX_DEPTH) for event in events(count, seed)
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """A webhook as it is sent."""

    vendor: str
    kind: str
    body: bytes
    at: Instant


def events(count: int, seed: int = SEED) -> Iterator[Sent]:
    """The mix as webhooks, in the order of sending."""
    world = World(random.Random(seed), max(1, count // 4), BEGIN)
    makers: dict[tuple[str, str], Callable[[World], Body]] = {
        ("altibbi", "status"): altibbi.status,
        ("altibbi", "recommendation"): altibbi.recommendation,
        ("mediquo", "consultation"): mediquo.consultation,
        ("mediquo", "report"): mediquo.report,
        ("infermedica", "survey"): infermedica.survey,
        ("azodha", "appointment"): azodha.appointment,
        ("azodha", "survey"): azodha.assessment,
        ("azodha", "file"): azodha.file,
    }
    assert makers.keys() == SHARES.keys()
    drawn = world.rng.choices(list(SHARES), weights=list(SHARES.values()), k=count)
    for position, (vendor, kind) in enumerate(drawn):
        world.now = BEGIN + EVERY * position
        at = Instant.parse(world.time())
        assert at is not None
        yield Sent(vendor, kind, orjson.dumps(makers[vendor, kind](world)), at)
