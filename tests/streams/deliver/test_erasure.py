"""``fhirline forget`` and ``fhirline deliver`` together: nothing of the patient is left at a real FHIR server."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ProducerRecord
from tests.streams.deliver.test_deliver import poison
from tests.support.delivery import (
    Erasable,
    delivering,
    differing,
    erasable,
    lag,
    letters,
    run_command,
    wait_until_delivered,
    waiting,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.ehr.server import EhrServer
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import wait_until

KEY = {"FHIRLINE_ERASURE_KEY": "0123456789abcdef0123456789abcdef"}


def test_an_erased_patient_is_purged_and_no_older_bundle_brings_it_back(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """The history is gone too. A Bundle that was made before the erasure comes late: it is not sent."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    patients = erasable(settings, of_each=4)
    gone, others = patients[0], patients[1:]
    expected = write(settings, (record for patient in patients for record in patient.records))
    with delivering(settings, server.base, **KEY) as process:
        wait_until_delivered(settings, process)
        assert differing(server, expected) == []
        assert forget(settings, gone).returncode == 0
        wait_until_delivered(settings, process)
        assert remaining(server, gone) == []
        write(settings, gone.bundles)
        wait_until_delivered(settings, process)
        process.wait_for("erased patient passed over")
    assert remaining(server, gone) == []
    assert differing(server, {key: value for key, value in expected.items() if key not in gone.keys}) == []
    assert all(len(history(server, key)) > 0 for other in others for key in other.keys)
    assert letters(settings) == {}
    report = reported(settings, gone, tmp_path)
    assert report["server"] == {"purged": len(gone.keys)}
    with delivering(settings, server.base) as process:  # without the key it cannot tell who is erased
        wait_until(lambda: not process.running, lambda: process.report("does not end"))
    assert process.exit_code == 2
    assert any("FHIRLINE_ERASURE_KEY" in line for line in process.said())


def test_what_was_erased_before_its_bundles_were_delivered_is_never_sent(
    own_broker: RunningBroker, ehr_server: EhrServers
) -> None:
    """One patient is parked when the erasure comes, the Bundles of another one have not been read yet, and the Bundle
    of a third one is repeated because the server is busy."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    parked, behind, busy, *others = patients = erasable(settings, of_each=4)
    first, *later = parked.bundles
    write(settings, (poison(record) if record is first else record for record in parked.records))
    expected = write(settings, (record for other in (busy, *others) for record in other.records))
    with delivering(settings, server.base, **KEY) as process:
        wait_until_delivered(settings, process)
    assert len(waiting(settings)) == 1 + len(later)
    write(settings, behind.records)
    assert forget(settings, parked).returncode == 0
    assert forget(settings, behind).returncode == 0
    with FaultProxy(server.base, [503] * 10_000) as proxy:
        with delivering(settings, proxy.base, **KEY) as process:
            process.wait_for("delivering")
            write(settings, [late(busy)])
            wait_until(lambda: LATE in proxy.tried, process.output)
            assert forget(settings, busy).returncode == 0
            wait_until(lambda: process.output.count("erased patient passed over") > len(behind.bundles), process.output)
            proxy.faults.clear()
            wait_until_delivered(settings, process)
        assert proxy.put.isdisjoint(parked.keys | behind.keys | busy.keys | {LATE})
    assert waiting(settings) == []
    assert [remaining(server, item) for item in (parked, behind, busy)] == [[], [], []]
    assert server.send("GET", LATE).status == 404
    others_keys = set[str]().union(*(patient.keys for patient in patients[3:]))
    assert differing(server, {key: value for key, value in expected.items() if key in others_keys}) == []


LATE = "Provenance/00000000-0000-5000-8000-00000000000f"


def late(patient: Erasable) -> ProducerRecord:
    """Make another Bundle of a patient: one more Provenance, and the patient."""
    bundle = orjson.loads(patient.bundles[-1].value or b"")
    of_patient = [entry for entry in bundle["entry"] if entry["request"]["url"].startswith("Patient/")]
    provenance = bundle["entry"][-1]["resource"] | {"id": LATE.partition("/")[2]}
    added = {"fullUrl": f"https://x.example/{LATE}", "resource": provenance, "request": {"method": "PUT", "url": LATE}}
    return replace(patient.bundles[-1], value=orjson.dumps(bundle | {"entry": [*of_patient, added]}))


def test_a_server_that_refuses_the_purge_is_named_in_the_report(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """The offset is committed all the same. Nothing is purged where the operator has switched it off."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    refused, kept, *_ = patients = erasable(settings, of_each=2)
    write(settings, (record for patient in patients for record in patient.records))
    with FaultProxy(server.base, refused={"/$expunge": 405}) as proxy:
        with delivering(settings, proxy.base, **KEY) as process:
            wait_until_delivered(settings, process)
            assert forget(settings, refused).returncode == 0
            wait_until_delivered(settings, process)
            assert process.wait_for("the server may keep what was erased")["outcomes"] == {
                "refused-405": len(refused.keys)
            }
        assert proxy.answered == {"405 to a purge": len(refused.keys)}
    assert len(remaining(server, refused)) == len(refused.keys)
    assert all(server.send("GET", key).status == 410 for key in refused.keys)
    report = reported(settings, refused, tmp_path)
    assert report["server"] == {"refused-405": len(refused.keys)}
    assert "the server refused the purge with 405" in report["printed"]
    with delivering(settings, server.base, FHIRLINE_FHIR_PURGE="false", **KEY) as process:
        assert forget(settings, kept).returncode == 0
        wait_until_delivered(settings, process)
    assert reported(settings, kept, tmp_path)["server"] == {"off": len(kept.keys)}


def test_a_killed_process_goes_on_with_the_purge(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """The DELETE is confirmed, and the server is busy when it is to purge: the Bundle is not committed."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    gone = erasable(settings, of_each=1)[0]
    write(settings, gone.records)
    with FaultProxy(server.base, refused={"/$expunge": 503}) as proxy:
        with delivering(settings, proxy.base, **KEY) as process:
            wait_until_delivered(settings, process)
            assert forget(settings, gone).returncode == 0
            process.wait_for("not purged yet")
            process.kill()
        assert lag(settings) == 1
        assert reported(settings, gone, tmp_path)["server"] == {"not-purged": len(gone.keys)}
        proxy.refused.clear()
        with delivering(settings, proxy.base, **KEY) as process:
            wait_until_delivered(settings, process)
    assert remaining(server, gone) == []
    assert reported(settings, gone, tmp_path)["server"] == {"purged": len(gone.keys)}


def test_a_foreign_reference_that_forbids_the_delete_is_told_with_its_place(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """Once it is removed, resuming deletes and purges."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    gone = erasable(settings, of_each=1)[0]
    patient = next(key for key in gone.keys if key.startswith("Patient/"))
    write(settings, gone.records)
    with delivering(settings, server.base, FHIRLINE_DELIVER_CONFLICTS="3", **KEY) as process:
        wait_until_delivered(settings, process)
        foreign = {"resourceType": "Flag", "id": "foreign", "status": "active", "code": {"text": "made by another"}}
        assert server.send("PUT", "Flag/foreign", foreign | {"subject": {"reference": patient}}).status == 201
        assert forget(settings, gone).returncode == 0
        wait_until_delivered(settings, process)
        (letter,) = letters(settings).values()
        assert (letter["status"], letter["referring"]) == (409, ["Flag/foreign at Flag.subject"])
        assert reported(settings, gone, tmp_path)["server"] == {"not-deleted": len(gone.keys)}
        assert server.send("DELETE", "Flag/foreign").status == 200
        resumed = run_command("deliver", "resume", "--all", settings=settings)
        assert resumed.returncode == 0, resumed.stderr
        wait_until(lambda: not waiting(settings) or not process.running, lambda: process.report("does not resume"))
        wait_until(lambda: not remaining(server, gone) or not process.running, lambda: process.report("does not purge"))
    assert reported(settings, gone, tmp_path)["server"] == {"purged": len(gone.keys)}


def test_a_server_that_deletes_nothing_stops_nobody(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """405 is its answer, as from a wrong address. The erasure waits with a dead letter; other patients go on."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    gone, other = erasable(settings, of_each=1)
    write(settings, gone.records)
    with (
        FaultProxy(server.base, poisoned=['"method":"DELETE"'], refusal=405) as proxy,
        delivering(settings, proxy.base, **KEY) as process,
    ):
        wait_until_delivered(settings, process)
        assert forget(settings, gone).returncode == 0
        wait_until_delivered(settings, process)
        expected = write(settings, other.records)
        wait_until_delivered(settings, process)
        assert differing(server, expected) == []
        assert [letter["status"] for letter in letters(settings).values()] == [405]
        assert reported(settings, gone, tmp_path)["server"] == {"not-deleted": len(gone.keys)}
        proxy.poisoned.clear()
        assert run_command("deliver", "resume", "--all", settings=settings).returncode == 0
        wait_until(lambda: not waiting(settings) or not process.running, lambda: process.report("does not resume"))
        wait_until(lambda: not remaining(server, gone) or not process.running, lambda: process.report("does not purge"))


def forget(settings: Settings, erased: Erasable, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the command. No worker runs, so nothing has to settle."""
    patient = erased.patient
    named = ("--vendor", patient.vendor, "--tenant", patient.tenant, "--patient", patient.key)
    return run_command(
        "forget", *named, "--yes", "--reason", "a test", "--settle", "0", *more, settings=settings, **KEY
    )


def reported(settings: Settings, erased: Erasable, folder: Path) -> dict[str, Any]:
    """Run the finished erasure again, and return its report, with what it printed."""
    file = folder / f"{erased.patient.tenant}.json"
    file.unlink(missing_ok=True)
    done = forget(settings, erased, "--export-report", str(file))
    assert done.returncode == 0, done.stderr
    return {**json.loads(file.read_text()), "printed": done.stdout}


def history(server: EhrServer, key: str) -> list[Any]:
    """Return the versions of a resource that the server shows with content."""
    answer = server.send("GET", f"{key}/_history")
    return [entry for entry in answer.body.get("entry", []) if "resource" in entry] if answer.status == 200 else []


def remaining(server: EhrServer, erased: Erasable) -> list[str]:
    """Return the patient's resources of which the server has anything."""
    return sorted(key for key in erased.keys if history(server, key) or server.send("GET", key).status == 200)
