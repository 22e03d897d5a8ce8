"""Odd answers to what `verify` and a purge read: no difference is hidden, and nothing runs for ever."""

import asyncio
import json
from typing import Any

import pytest

from fhirline.config.fhir_servers import fhir_servers
from fhirline.config.settings import load_settings
from fhirline.streams.deliver.auth import authorization
from fhirline.streams.deliver.fhir_client import FhirServer
from fhirline.streams.deliver.limiter import Limiter
from fhirline.streams.deliver.metrics import DeliverMetrics
from fhirline.streams.deliver.purge import Purge
from fhirline.streams.deliver.purge_outcomes import KEPT, PURGED
from fhirline.streams.observe.metrics.registry import new_registry
from fhirline.streams.operate.deliveries.compare import same
from fhirline.topics.declared import BUNDLE
from tests.streams.deliver.test_fill import golden
from tests.support.delivery import run_command, write
from tests.support.kafka.brokers import RunningBroker
from tests.support.raw_server import RawServer, Request, answered

SLOT: dict[str, Any] = {"resourceType": "Slot", "id": "1", "meta": {"tag": [{"code": "a"}]}, "text": {"div": "<div/>"}}


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "theirs",
    [
        {**SLOT, "meta": None},
        {**SLOT, "meta": [1]},
        {**SLOT, "meta": {"tag": [deep(300)]}},
        {**SLOT, "text": {"div": None}},
        {**SLOT, "text": {"div": 5}},
        {**SLOT, "text": {"div": "<a:div/>"}},
        {**SLOT, "comment": deep(900)},
        {},
    ],
    ids=range(8),
)
def test_an_odd_resource_is_another_one(theirs: dict[str, Any]) -> None:
    assert not same(SLOT, theirs)


def test_pages_that_lead_to_themselves_are_left(own_broker: RunningBroker) -> None:
    """Ids that are none, and resources of other types, are neither read nor printed."""
    settings = own_broker.settings()
    record = next(item for item in golden(settings) if item.topic != BUNDLE)
    write(settings, [record])
    odd = [
        {"resourceType": "Patient", "id": "../admin"},
        {"resourceType": "Patient", "id": "\u001b[31mAbdurrahman"},
        {"resourceType": "Patient", "id": 5},
        {"resourceType": "Abdurrahman", "id": "1"},
    ]

    def answer(request: Request) -> bytes:
        kind, _, query = request.path.removeprefix("/fhir/").partition("?")
        if not query:
            return answered(record.value or b"")
        entries = [{"resource": item} for item in odd]
        link = [{"relation": "next", "url": f"{server.base}/{kind}?{query}"}]
        return answered({"resourceType": "Bundle", "entry": entries, "link": link})

    with RawServer(answer) as server:
        told = run_command("deliver", "verify", "--server", server.base, "--json", settings=settings)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["found"]["foreign"] == []
    assert found["unsearched"]["Patient"] == "its next page is one that was read before"
    assert "Abdurrahman" not in told.stdout + told.stderr
    assert not any("admin" in request.path for request in server.requests)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ({"resourceType": "Bundle", "entry": [{"request": {"method": "DELETE"}}]}, PURGED),
        ({"resourceType": "Bundle"}, PURGED),
        ({"resourceType": "Bundle", "entry": [{"resource": SLOT}]}, KEPT),
        ({"resourceType": "Bundle", "entry": 5}, KEPT),
        ({"resourceType": "OperationOutcome"}, KEPT),
        (b"<html>sign in</html>", KEPT),
        (b"", KEPT),
    ],
    ids=range(7),
)
def test_what_is_no_history_does_not_show_that_nothing_is_kept(history: Any, expected: str) -> None:
    """A proxy answers anything with 200 and a page of its own."""

    async def purged(base: str) -> str:
        settings = load_settings(fhir_server=base)
        async with FhirServer(settings, authorization(settings)) as server:
            server.profile = fhir_servers().profiles["hapi"]
            purge = Purge(settings, server, Limiter(1), DeliverMetrics(new_registry("deliver")))
            return await purge.history("Slot/1", lambda: False)

    def answer(request: Request) -> bytes:
        return answered(history if request.method == "GET" else {"resourceType": "OperationOutcome"})

    with RawServer(answer) as server:
        assert asyncio.run(purged(server.base)) == expected
