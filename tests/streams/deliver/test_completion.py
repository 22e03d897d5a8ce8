"""Completes what a FHIR server misses from the topics, but never with a resource of an erased patient."""

from dataclasses import replace

import orjson

from fhirline.config.settings import Settings
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import BUNDLE, PATIENTLESS_TYPES
from tests.streams.deliver.test_erasure import KEY, forget
from tests.support.delivery import Erasable, delivering, erasable, letters, wait_until_delivered, waiting, write
from tests.support.ehr.fixture import EhrServers
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import wait_until


def test_another_patients_resource_is_completed(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """With that patient, whom it refers to: nobody of the two is erased."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    one, other = neighbours(settings)
    write(settings, [*resources(other), *one.records, referring(one, encounter(other))])
    with delivering(settings, server.base, **KEY) as process:
        wait_until_delivered(settings, process)
    assert letters(settings) == {}
    assert server.send("GET", encounter(other)).status == 200
    assert server.send("GET", patient(other)).status == 200


def test_what_is_an_erased_patients_is_never_completed(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """Values came late, after the erasure's tombstones. Who refers to them is parked, with a letter."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    one, gone = neighbours(settings)
    write(settings, [*one.records, *gone.records])
    assert forget(settings, gone).returncode == 0
    write(settings, [*resources(gone), referring(one, encounter(gone))])
    with FaultProxy(server.base) as proxy, delivering(settings, proxy.base, **KEY) as process:
        wait_until_delivered(settings, process)
        assert proxy.tried.isdisjoint(gone.keys)
    assert [item["patients"] for item in waiting(settings)] == [[patient(one)]]
    assert [letter["status"] for letter in letters(settings).values()] == [400]


def test_a_patient_who_is_erased_while_the_server_is_busy_is_not_completed(
    own_broker: RunningBroker, ehr_server: EhrServers
) -> None:
    """The resource was added already, and the server was asked once."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    one, gone = neighbours(settings)
    raw = [record for record in gone.records if not record.topic.startswith("fhir.r4.")]
    write(settings, [*raw, *resources(gone), *one.records, referring(one, encounter(gone))])
    with FaultProxy(server.base) as proxy, delivering(settings, proxy.base, **KEY) as process:
        proxy.busy = f'"PUT","url":"{encounter(gone)}"'
        wait_until(lambda: encounter(gone) in proxy.tried or not process.running, process.output)
        assert forget(settings, gone).returncode == 0
        wait_until(lambda: letters(settings) or not process.running, process.output)
        proxy.busy = ""
        wait_until_delivered(settings, process)
        assert proxy.put.isdisjoint(gone.keys)
    assert [item["patients"] for item in waiting(settings)] == [[patient(one)]]


def neighbours(settings: Settings) -> tuple[Erasable, Erasable]:
    """Return two patients whose resources are in one partition; the second one has an Encounter."""
    by_partition: dict[int | None, list[Erasable]] = {}
    for found in erasable(settings, of_each=8):
        by_partition.setdefault(found.bundles[0].partition, []).append(found)
    return next(
        (one, other)
        for found in by_partition.values()
        for one in found
        for other in found
        if one is not other and any(key.startswith("Encounter/") for key in other.keys)
    )


def encounter(of: Erasable) -> str:
    return min(key for key in of.keys if key.startswith("Encounter/"))


def patient(of: Erasable) -> str:
    return min(key for key in of.keys if key.startswith("Patient/"))


def resources(of: Erasable) -> list[ProducerRecord]:
    return [record for record in of.records if record.topic.startswith("fhir.r4.") and record.topic != BUNDLE]


def referring(of: Erasable, target: str) -> ProducerRecord:
    """Make another Bundle of a patient: one more Provenance, also of a resource that another patient has."""
    bundle = orjson.loads(of.bundles[-1].value or b"")
    id = "00000000-0000-5000-8000-00000000000e"
    provenance = bundle["entry"][-1]["resource"] | {"id": id}
    provenance["target"] = [*provenance["target"], {"reference": target}]
    own = [
        entry for entry in bundle["entry"][:-1] if entry["request"]["url"].partition("/")[0] not in PATIENTLESS_TYPES
    ]
    added = {
        "fullUrl": f"https://x.example/Provenance/{id}",
        "resource": provenance,
        "request": {"method": "PUT", "url": f"Provenance/{id}"},
    }
    return replace(of.bundles[-1], value=orjson.dumps(bundle | {"entry": [*own, added]}))
