"""``fhirline deliver`` as a process, from a real broker to a real FHIR server."""

import random
from dataclasses import replace

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.streams.deliver.entries import SHARED_TYPES, entries_of, patients_of
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import BUNDLE
from tests.support.delivery import (
    bumped,
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
from tests.support.kafka.brokers import RunningBroker, also_on_apache
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


@also_on_apache
def test_several_processes_share_the_partitions(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """One joins, one leaves in order and one is killed under way: each patient's values arrive in order, and once.

    Shared types are not counted: each process remembers by itself which of their values in Bundles are older.
    """
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, golden_records(settings))
    total = lag(settings)
    with delivering(settings, server.base) as first:
        first.wait_for("partitions assigned")
        with delivering(settings, server.base) as second:
            second.wait_for("partitions assigned")
            wait_until_delivered(settings, second, but=total * 3 // 4)
            with delivering(settings, server.base) as third:
                third.wait_for("partitions assigned")
                assert first.stop() == 0, first.report("did not end in order")
                wait_until_delivered(settings, third, but=total // 2)
                second.kill()
                wait_until_delivered(settings, third)
    assert letters(settings) == {}
    assert differing(server, expected) == []
    assert bumped(server, settings, [key for key in expected if key.partition("/")[0] not in SHARED_TYPES]) == []


def in_parts(records: list[ProducerRecord], number: int) -> list[list[ProducerRecord]]:
    """Divide the records of the golden cases, each with all of its records in one part."""
    parts: list[list[ProducerRecord]] = [[] for _ in range(number)]
    for record in records:
        tenant = header(record.headers, "tenant") or ""
        parts[int(tenant.removeprefix("case-")) % number].append(record)
    return parts


@pytest.mark.long
def test_a_server_that_is_killed_and_started_again_has_everything(own_broker: RunningBroker) -> None:
    """Bundles that it answered with 2xx are on its disk; all others are sent again, and become no dead letter."""
    settings = own_broker.settings()
    with own_ehr_server(durable=True) as server:
        base = server.base
        assert server.send("PUT", "Patient/kept", {"resourceType": "Patient", "id": "kept"}).status == 201
        first, *later = in_parts([*golden_records(settings)], 3)
        expected = write(settings, first)
        with delivering(settings, server.base) as process:
            for part in later:
                wait_until_delivered(settings, process, but=lag(settings) // 2)
                server.kill()
                expected |= write(settings, part)  # so that there is something to repeat, however fast the server is
                assert lag(settings) > 0
                server.start()
                assert server.base == base
                assert server.send("GET", "Patient/kept").body["meta"]["versionId"] == "1"
            wait_until_delivered(settings, process)
        assert letters(settings) == {}
        assert differing(server, expected) == []


def test_a_refused_bundle_parks_its_patient_until_resumed(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """Only the poisoned patients wait, with their later Bundles. Another process sends them, with corrected values."""
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
        shown_to_operators(settings, server.base, len(patients), len(waiting(settings)))
    with delivering(settings, server.base) as process:  # to which no Bundle comes
        resumed = run_command("dead-letters", "redrive", "--delivery", "--yes", settings=settings)
        assert resumed.stdout.startswith(f"{len(patients)} ordered"), resumed.stderr
        wait_until(lambda: not waiting(settings) or not process.running, lambda: process.report("does not resume"))
        assert process.running, process.report("has ended")
    assert differing(server, expected) == []


def shown_to_operators(settings: Settings, server: str, patients: int, bundles: int) -> None:
    """``status`` and ``doctor --online`` tell how many wait; ``dead-letters`` lists them, and can send them by code."""
    own = {"FHIRLINE_FHIR_SERVER": server}
    status = run_command("status", "--once", "--json", settings=settings, **own)
    assert status.returncode == 0, status.stderr
    told = orjson.loads(status.stdout)
    assert told["delivery"] == {"parkedPatients": patients, "waitingBundles": bundles}
    assert [inflow["lag"] for inflow in told["inflows"] if inflow["group"] == "fhirline.deliver"] == [0]
    found = orjson.loads(run_command("doctor", "--online", "--json", settings=settings, **own).stdout)["findings"]
    levels = {item["check"]: (item["level"], item["text"]) for item in found}
    assert levels["fhir server"][0] == "ok", levels["fhir server"]
    assert levels["delivery"][0] == "warning"
    assert levels["delivery"][1].startswith(f"{patients} patients parked, {bundles} Bundles")
    listed = run_command("dead-letters", "list", "--delivery", settings=settings)
    assert listed.stdout.splitlines()[-1] == f"{bundles} waiting"
    none = run_command("dead-letters", "redrive", "--delivery", "--code", "too-large", "--dry-run", settings=settings)
    assert none.stdout == "0 patients would be resumed; nothing was\n"
    wrong = run_command("dead-letters", "redrive", "--delivery", "--vendor", "mediquo", "--yes", settings=settings)
    assert (wrong.returncode, "only --code" in wrong.stderr) == (2, True)


NOBODY = "Patient/00000000-0000-5000-8000-000000000000"


def poison(record: ProducerRecord) -> ProducerRecord:
    """Let the Bundle's last Provenance refer to a patient that nobody has."""
    bundle = orjson.loads(record.value or b"")
    bundle["entry"][-1]["resource"]["target"].append({"reference": NOBODY})
    return replace(record, value=orjson.dumps(bundle))
