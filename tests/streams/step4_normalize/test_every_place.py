"""A secret at every place of every golden case, in every disguise, is in nothing that is stored (mapping.md §7).

`test_secrets.py` and `test_planted_credentials.py` choose places by chance, and real processes. Here each place of each
case meets each disguise, by the pure functions of gateway, ``ingest`` and worker. The fast form is a sample of these.
"""

import os
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from zlib import crc32

import orjson
import pytest
from structlog.testing import capture_logs

from fhirline.mappers.registry import VENDORS
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step1_receive.files import lines
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step4_normalize.raw_event import envelope_of
from tests.streams.step4_normalize.test_planted_credentials import shown
from tests.streams.step4_normalize.test_secrets import AT, CASES, read_back, written
from tests.support.planting import Place, places_of
from tests.support.secret_marks import shown_in
from tests.support.secret_table import REDACTED, WITHHELD

DISGUISES = {**REDACTED, **WITHHELD}
GROUPS = {
    "texts": [name for name in REDACTED if name.startswith("text")],
    "keys": [name for name in REDACTED if not name.startswith("text")],
    **{f"credentials {part}": [*WITHHELD][part::6] for part in range(6)},
}
POSITIONS = {(case.vendor, case.name): position for position, case in enumerate(CASES)}
SAMPLE = 400
"""Each so many-th of the pairs of a place and a disguise is in the fast form."""
SHARE = int(os.environ.get("SECRETS_SHARE") or 4)
"""Each so many-th is in the long form; ``SECRETS_SHARE=1`` for all, which takes some six minutes of CPU."""
MAPPED = 16
"""Each so many-th event whose raw record has no secret is mapped, too: nothing of it can have one."""


def planted(vendor: str, disguises: list[str], share: int) -> Iterator[tuple[Place, str, int]]:
    """Yield each ``share``-th pair of a place and a disguise, with a number that is the same in each run."""
    for place in places_of(vendor):
        for disguise in disguises:
            number = crc32(f"{place.name} {disguise}".encode())
            if number % share == 0:
                yield place, disguise, number // share


def leaks(place: Place, body: bytes, in_raw: bool, mapped: bool) -> list[str]:
    """Return the topics of records, or "log", in which an event's secret is.

    ``in_raw``: whether the raw event and the value of a dead letter may have it. ``mapped``: whether the event is
    mapped also where its raw record has no secret.
    """
    case = place.case
    (line,) = lines("file", BytesIO(body + b"\n"), len(body) + 1)
    assert line.content == body, "ingest makes the record of the bytes of which the gateway makes it"
    with capture_logs() as logged:
        raw = raw_record(case.vendor, "acme", body, AT, case.route_event, 200)
        route = {"event_type": case.route_event} if case.route_event else {}
        sent = headers(received_at=AT.text, tenant="acme", **route)
        foreign = ConsumerRecord(f"raw.{case.vendor}", 0, 0, 0, b"k", body, sent)
        assert envelope_of(foreign) == envelope_of(read_back(raw)), "a foreign producer's event is the gateway's"
        records = [raw, *(written(read_back(raw), POSITIONS[case.vendor, case.name]) if mapped or in_raw else ())]
    stored = [(record.topic, shown(record) if in_raw else _all(record)) for record in records]
    return sorted({name for name, content in (*stored, ("log", repr(logged).encode())) if shown_in(content)})


def _all(record: Any) -> bytes:
    return b"\n".join([record.key or b"", record.value or b"", repr(record.headers).encode()])


def sweep(vendor: str, disguises: list[str], share: int) -> None:
    found = []
    for place, disguise, number in planted(vendor, disguises, share):
        bodies = place.bodies(DISGUISES[disguise])
        body = orjson.dumps(bodies[number % len(bodies)])
        assert shown_in(body)
        if leaked := leaks(place, body, disguise in WITHHELD, share == SAMPLE or number % MAPPED == 0):
            found.append(f"{disguise} at {place.name} in {', '.join(leaked)}")
    assert not found, f"{len(found)} leaks:\n" + "\n".join(found[:40])


@pytest.mark.parametrize("vendor", VENDORS)
def test_no_secret_of_a_sample_is_stored(vendor: str) -> None:
    sweep(vendor, [*DISGUISES], SAMPLE)


@pytest.mark.long
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_no_secret_at_any_place_in_any_disguise_is_stored(vendor: str, group: str) -> None:
    sweep(vendor, GROUPS[group], SHARE)


def test_each_disguise_has_a_secret_that_is_looked_for() -> None:
    for disguise, value in DISGUISES.items():
        assert shown_in(orjson.dumps(value)), disguise


def test_every_golden_case_has_places() -> None:
    """Count places and cases. One place is left of those that are alike, so that a case may have none of its own."""
    assert all(len(places_of(vendor)) > 100 for vendor in VENDORS)
    assert len({place.case.name for vendor in VENDORS for place in places_of(vendor)}) > len(CASES) / 2
