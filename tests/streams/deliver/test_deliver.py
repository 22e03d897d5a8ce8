"""``fhirline deliver`` as a process, from a real broker to a real FHIR server."""

import random
from dataclasses import replace

import orjson
import pytest

from fhirline.streams.deliver.entries import entries_of, patients_of
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import BUNDLE
from tests.support.delivery import (
    delivering,
    differing,
    golden_records,
    lag,
    letters,
    run_command,
    versions,
    wait_until_delivered,
    waiting,
    write,
)
from tests.support.ehr.fixture import EhrServers, own_ehr_server
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import wait_until


def test_all_golden_bundles_arrive_and_nothing_unchanged_is_sent_again(
    own_broker: RunningBroker, ehr_server: EhrServers
) -> None:
    """Each GET is the last canonical value; reading the whole topic again under another group changes no version."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, golden_records(settings))
    with delivering(settings, server.base) as process:
        wait_until_delivered(settings, process)
    assert process.exit_code == 0, process.report("did not end in order")
    assert letters(settings) == {}
    assert differing(server, expected) == []
    before = versions(server, expected)
    again = own_broker.settings(group="again")
    with delivering(again, server.base, FHIRLINE_GROUP="again") as process:
        wait_until_delivered(again, process)
    assert versions(server, expected) == before


def test_what_fails_on_the_way_is_repeated_and_is_no_dead_letter(
    own_broker: RunningBroker, ehr_server: EhrServers
) -> None:
    """Conflicts, throttling, errors, connections cut after the commit, and a 429 inside a 200."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, golden_records(settings))
    kinds = (409, 429, 503, 500, "cut", "hidden-429")
    faults = [*kinds * 15, *[None] * 150]  # so few that no transaction meets conflicts only
    random.Random(1).shuffle(faults)
    with FaultProxy(server.base, faults) as proxy, delivering(settings, proxy.base) as process:
        wait_until_delivered(settings, process)
        assert not proxy.faults
        assert proxy.answered == {str(kind): 15 for kind in kinds}
    assert letters(settings) == {}
    assert differing(server, expected) == []


def test_killed_at_random_moments_nothing_is_lost(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, golden_records(settings))
    total, rng = lag(settings), random.Random(3)
    for kill in range(1, 4):
        with delivering(settings, server.base) as process:
            wait_until_delivered(settings, process, but=total - total * kill // 5 - rng.randrange(total // 10))
            process.kill()
    with delivering(settings, server.base) as process:
        wait_until_delivered(settings, process)
    assert letters(settings) == {}
    assert differing(server, expected) == []


@pytest.mark.long
def test_a_server_that_is_killed_and_started_again_has_everything(own_broker: RunningBroker) -> None:
    """What the killed server answered 2xx to is on its disk; all else is repeated, and is no dead letter."""
    settings = own_broker.settings()
    with own_ehr_server(durable=True) as server:
        expected = write(settings, golden_records(settings))
        total = lag(settings)
        with delivering(settings, server.base) as process:
            for part in (4, 2):
                wait_until_delivered(settings, process, but=total - total // part)
                server.kill()
                assert lag(settings) > 0, "all was delivered before the kill"
                server.start()
            wait_until_delivered(settings, process)
        assert letters(settings) == {}
        assert differing(server, expected) == []


def test_a_refused_bundle_parks_its_patient_until_resumed(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """Only the poisoned patients wait, with their later Bundles. Resumed, the corrected values arrive."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    records = [*golden_records(settings)]
    bundles = [record for record in records if record.topic == BUNDLE]
    poisoned = {record.key: poison(record) for record in bundles[20::60]}
    patients = {key for record in poisoned.values() for key in patients_of(entries_of(record.value))}
    entries = [entries_of(record.value) for record in bundles]
    theirs = {entry.key for found in entries if patients & patients_of(found) for entry in found}
    expected = write(settings, (poisoned.get(record.key, record) for record in records))
    with delivering(settings, server.base) as process:
        wait_until_delivered(settings, process)
        assert {key for item in waiting(settings) for key in item["patients"]} == patients
        refused = letters(settings).keys()
        assert refused
        assert refused <= {key.decode() for key in poisoned}, "later Bundles of a patient wait, without a letter"
        assert {letter["status"] for letter in letters(settings).values()} <= {400, 404, 409, 422}
        assert NOBODY not in orjson.dumps(letters(settings)).decode()
        assert differing(server, {key: value for key, value in expected.items() if key not in theirs}) == []
        resumed = run_command("deliver", "resume", "--all", settings=settings)
        assert resumed.returncode == 0, resumed.stderr
        wait_until(lambda: not waiting(settings) or not process.running, lambda: process.report("does not resume"))
        assert process.running, process.report("has ended")
    assert differing(server, expected) == []


NOBODY = "Patient/00000000-0000-5000-8000-000000000000"


def poison(record: ProducerRecord) -> ProducerRecord:
    """Let the Bundle's last Provenance refer to a patient that nobody has."""
    bundle = orjson.loads(record.value or b"")
    bundle["entry"][-1]["resource"]["target"].append({"reference": NOBODY})
    return replace(record, value=orjson.dumps(bundle))
