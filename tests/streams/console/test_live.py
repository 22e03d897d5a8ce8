"""The pipeline's figures: what stands still is told, and no record of another producer ends the readings."""

import asyncio
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from fhirline.config.settings import Settings
from fhirline.config.vendors import load_vendors
from fhirline.streams.console.access import Access
from fhirline.streams.console.application import application
from fhirline.streams.console.console import Console
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.event_progress import PROVENANCE
from fhirline.streams.console.live import LATE, Live
from fhirline.streams.console.redrives import Redrives
from fhirline.streams.console.replays import Replays
from fhirline.streams.console.stalled import STILL, StallDetector, Stalled
from fhirline.streams.console.views.pipeline import _update
from fhirline.streams.console.views.pipeline_numbers import show_topics
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ProducerRecord, TopicPartition
from fhirline.streams.operate.status.reading import Ends, Reading
from fhirline.streams.operate.status.summary import Source, summarize
from fhirline.topics.declared import DELIVERED, OUTCOME
from tests.streams.console.test_erased import listed
from tests.support.console_pages import Visitor, console
from tests.support.delivery import write
from tests.support.kafka.brokers import RunningBroker, settings_for
from tests.support.load import load_on
from tests.support.waiting import wait_until

ONE, TWO = (TopicPartition("raw.mediquo", number) for number in range(2))


def reading(seconds: float, committed: int, end: int) -> Reading:
    """One partition as told, and one that has nothing."""
    return Reading(seconds, seconds, {ONE: Ends(0, end), TWO: Ends(3, 3)}, {"workers": {ONE: committed}}, {})


def test_records_that_nobody_takes_are_told() -> None:
    progress = StallDetector([Source("mediquo", "raw.mediquo", "workers")])
    assert progress.take(reading(0, 5, 5)) == []
    assert progress.take(reading(1_000, 5, 5)) == []  # nothing came
    assert progress.take(reading(1_003, 5, 17)) == []
    assert progress.take(reading(1_000 + STILL, 5, 17)) == [Stalled("raw.mediquo", "workers", 12, STILL)]
    assert progress.take(reading(1_003 + STILL, 6, 17)) == []  # it takes them, however slowly
    assert progress.take(reading(1_004 + 2 * STILL, 6, 17)) == [Stalled("raw.mediquo", "workers", 11, STILL + 1)]
    assert progress.take(reading(1_005 + 2 * STILL, 17, 17)) == []


def test_open_pages_share_one_rendering_which_tells_when_it_is_old() -> None:
    """With a rendering each, 200 open pages kept every other page waiting for four seconds."""
    settings = settings_for("127.0.0.1:9")

    async def renderings() -> tuple[bytes, bytes, bytes, bytes]:
        made = made_console(settings)
        try:
            request = make_mocked_request("GET", "/pipeline/updates", app=application(made))
            first, second = _update(request), _update(request)
            made.live._renew()
            later = _update(request)
            made.live.status = summarize(settings.bootstrap, [], [], reading(0, 5, 5), None)
            made.live.taken -= LATE + 1  # a broker that hangs
            return first, second, later, _update(request)
        finally:
            made.close()
            made.index.close()

    first, second, later, late = asyncio.run(renderings())
    assert first is second
    assert later is not first
    assert b"not current" not in later
    assert b"The figures are of 00:00:00 UTC, and not current" in late


def test_a_page_of_figures_that_are_not_there_yet_asks_to_come_again() -> None:
    """It was 404, as for a topic that nobody reads."""

    async def answered() -> str:
        made = made_console(settings_for("127.0.0.1:9"))
        try:
            with pytest.raises(web.HTTPServiceUnavailable, match=r"^Service Unavailable$") as refused:
                await show_topics(make_mocked_request("GET", "/pipeline/topics", app=application(made)))
            return refused.value.headers["Retry-After"]
        finally:
            made.close()
            made.index.close()

    assert asyncio.run(answered()) == "3"


def made_console(settings: Settings, user_header: str | None = None) -> Console:
    index = EventIndex(settings)
    vendors = load_vendors(settings.vendors_file)
    access = Access("token", user_header, time.monotonic)
    replays, redrives = Replays(settings.replay_dir), Redrives(settings)
    return Console(settings, vendors, access, Live(settings, index), index, frozenset(), replays, redrives)


def test_records_of_another_producer_do_not_end_the_readings(own_broker: RunningBroker) -> None:
    load = load_on(own_broker)
    sent = headers(event_key="e" * 64, vendor="altibbi", tenant=load.tenant, event_type="status_update")
    odd = [b"no JSON", b"[]", b'{"target": [3], "recorded": 7, "issue": "x"}', b"\xff", b"null"]
    write(
        load.settings,
        [ProducerRecord(topic, b"odd", value, headers=sent) for topic in (PROVENANCE, OUTCOME) for value in odd],
    )
    write(load.settings, [ProducerRecord(DELIVERED, key, b"odd") for key in (b"odd", b"\xff", b"waiting/odd")])
    with console(load.settings) as (url, process):
        visitor = Visitor(url).log_in()
        assert not listed(visitor)
        load.send(load.events(4, seed=3))
        wait_until(lambda: listed(visitor), lambda: process.report("lists no event any more"))
        assert "not current" not in visitor.get("/").text
