"""Events of all vendors and those of the demo, mapped and published; a payload of them tries to run a script."""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.streams.demo.webhooks import samples
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.cli.test_terminology import recommendation
from tests.support.browser import browser
from tests.support.console_pages import console
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.processes import Command

__all__ = ["browser"]

SCRIPT = "<script>document.title='it ran'</script><img src=x onerror=\"document.title='it ran'\">"
NAME = "Zephyrine"
"""A planted name: no page may show it before it is asked for."""


@dataclass(slots=True)
class Site:
    """A running console. ``planted``: the raw record of the event with `SCRIPT` and `NAME`.

    ``prescription``: that of a recommendation whose frequency and unit have no row in a table.
    """

    url: str
    process: Command
    load: Load
    planted: ConsumerRecord
    prescription: ConsumerRecord


def hostile_event(id: str) -> bytes:
    """A consultation whose texts hold markup and the planted name. Another ``id`` makes another event."""
    body = {
        "type": "patient_consultation_finished",
        "occurred_on": 1_718_205_600,
        "payload": {
            "consultation": {"id": id, "type": "chat"},
            "patient": {"code": f"synthetic-{id}", "first_name": NAME, "last_name": SCRIPT},
            "professional": {"id": f"synthetic-{id}", "name": SCRIPT},
            SCRIPT: SCRIPT,
        },
    }
    return orjson.dumps(body)


def of_the_demo(tenant: str) -> Iterator[ProducerRecord]:
    """The webhooks that `make demo` sends, and the gateway's records of them."""
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    for sample in samples():
        event = sample.route.removeprefix("/") or None
        yield raw_record(sample.vendor, tenant, orjson.dumps(sample.body), at, event, 64)


@pytest.fixture(scope="module")
def stack(embedded: RunningBroker) -> Iterator[Site]:
    load = load_on(embedded)
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    hostile = raw_record("mediquo", load.tenant, hostile_event(load.tenant), at, None, 64)
    unreadable = raw_record("altibbi", load.tenant, b'{"type": "status_update", "consultation_id": 1}', at, None, 64)
    drug = {"frequency": "Every full moon", "dosage": "1", "dosageUnit": "sachet"}
    recommended = orjson.dumps(recommendation(4711, drug))
    prescription = raw_record("altibbi", load.tenant, recommended, at, None, 64)
    raws = load.send([*load.events(60, seed=31), *of_the_demo(load.tenant), unreadable, hostile, prescription])
    with console(load.settings) as (url, process):
        planted, prescribed = (next(raw for raw in raws if raw.value == sent.value) for sent in (hostile, prescription))
        yield Site(url, process, load, planted, prescribed)
