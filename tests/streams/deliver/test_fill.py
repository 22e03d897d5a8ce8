"""``fhirline deliver --from topics`` as a process, from a real broker to a real FHIR server."""

from dataclasses import replace

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import BUNDLE
from tests.streams.deliver.test_deliver import NOBODY
from tests.support.delivery import (
    delivering,
    differing,
    filled,
    filling,
    golden_records,
    lag,
    letters,
    practitioners,
    versions,
    wait_until_delivered,
    waiting,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import wait_until

on_apache = pytest.mark.parametrize("own_broker", ["apache"], indirect=True)
"""A test about members of a group. The embedded broker's rebalances are not those of Apache Kafka."""


def test_a_server_is_filled_and_delivery_goes_on_from_there(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """Neither a second fill, nor the reading of all Bundles by another group, sends a value again, or an older one."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    records = [*golden_records(settings)]
    middle = len(records) // 2
    halves = [[*half, *practitioners(settings, half)] for half in (records[:middle], records[middle:])]
    first = write(settings, halves[0])
    counts = filled(settings, server.base)
    assert counts.startswith(f"{len(records_by_key(halves[0])):,} sent, 0 deleted, 0 sent before, 0 refused")
    assert differing(server, first) == []
    assert lag(settings) == 0, "the group goes on behind the Bundles that the values cover"
    expected = first | write(settings, halves[1])
    with delivering(settings, server.base) as process:
        wait_until_delivered(settings, process)
    assert differing(server, expected) == []
    before = versions(server, expected)
    assert filled(settings, server.base).startswith("0 sent, 0 deleted, ")
    again = own_broker.settings(group="again")
    with delivering(again, server.base, FHIRLINE_GROUP="again") as process:
        wait_until_delivered(again, process)
    assert versions(server, expected) == before
    assert letters(settings) == {}


@on_apache
def test_a_fill_that_is_killed_can_be_run_again(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """Through faults, too. What the killed one has noted is not sent again; an emptied server needs --everything."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, golden(settings))
    faults: list[int | str | None] = [429, 503, "cut", 409, "hidden-429", 500, None, None] * 4
    with FaultProxy(server.base, faults) as proxy, filling(settings, proxy.base) as process:
        wait_until(lambda: not proxy.faults or not process.running, process.output)
        process.kill()
    assert lag(settings) > 0
    sent = int(filled(settings, server.base).partition(" ")[0].replace(",", ""))
    assert 0 < sent < len(expected)
    assert differing(server, expected) == []
    before = versions(server, expected)
    assert set(before.values()) == {"1"}
    server.clear()
    assert filled(settings, server.base).startswith("0 sent, ")
    filled(settings, server.base, "--everything")
    assert differing(server, expected) == []
    assert letters(settings) == {}


def test_what_the_server_refuses_waits_and_tombstones_are_deleted(
    own_broker: RunningBroker, ehr_server: EhrServers
) -> None:
    """Exactly the poisoned patients wait, until a fill sends their corrected values."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    records = [item for item in golden(settings) if item.topic != BUNDLE]
    current = records_by_key(records)
    chosen = sorted(key for key in current if key.startswith("Encounter/"))[::9]
    poisoned = {key: poison(current[key]) for key in chosen}
    owners = {orjson.loads(current[key].value or b"")["subject"]["reference"] for key in chosen}
    expected = write(settings, [*records, *poisoned.values()])
    filled(settings, server.base, code=1)
    assert {owner for item in waiting(settings) for owner in item["patients"]} == owners
    assert letters(settings).keys() == owners
    assert NOBODY not in orjson.dumps(letters(settings)).decode()
    theirs = {key for item in waiting(settings) for key in item["keys"]}
    assert differing(server, {key: value for key, value in expected.items() if key not in theirs}) == []

    erased = {key for item in waiting(settings)[:1] for key in item["keys"]}
    expected |= write(settings, [current[key] for key in chosen if key not in erased])
    expected |= write(settings, [replace(current[key], value=None) for key in erased])
    counts = filled(settings, server.base)
    assert f", {len(erased)} deleted, " in counts
    assert waiting(settings) == []
    assert differing(server, expected) == []


@on_apache
def test_only_one_process_delivers_while_a_server_is_filled(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """A fill does not begin beside a delivery, and ends when one begins. The delivery brings all that is missing."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, golden(settings))
    with FaultProxy(server.base, [503] * 10_000) as proxy:
        with delivering(settings, proxy.base) as process:
            process.wait_for("partitions assigned")
            with filling(settings, server.base) as refused:
                assert refused.wait() == 2, refused.output
            assert "a process of group fhirline.deliver is delivering" in refused.output
        before = proxy.answered["503"]
        with filling(settings, proxy.base) as fill:
            wait_until(lambda: proxy.answered["503"] > before or not fill.running, "nothing is sent")
            with delivering(settings, server.base) as process:
                assert fill.wait() == 70, fill.output
                wait_until_delivered(settings, process)
    assert "another process has joined group fhirline.deliver" in fill.output
    assert differing(server, expected) == []


def golden(settings: Settings) -> list[ProducerRecord]:
    records = [*golden_records(settings)]
    return [*records, *practitioners(settings, records)]


def records_by_key(records: list[ProducerRecord]) -> dict[str, ProducerRecord]:
    """Return the last record of each canonical key."""
    return {record.key.decode(): record for record in records if record.topic != BUNDLE}


def poison(record: ProducerRecord) -> ProducerRecord:
    """Let an Encounter refer to a patient that nobody has, beside its own."""
    encounter = orjson.loads(record.value or b"")
    encounter["participant"] = [{"individual": {"reference": NOBODY.replace("Patient", "Practitioner")}}]
    return replace(record, value=orjson.dumps(encounter))
