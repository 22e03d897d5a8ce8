"""``fhirline forget`` and ``fhirline deliver --from topics`` together, from a real broker to a real FHIR server."""

from pathlib import Path

from fhirline.topics.declared import BUNDLE
from tests.streams.deliver.test_erasure import KEY, forget, remaining, reported
from tests.support.delivery import (
    delivering,
    differing,
    erasable,
    filled,
    filling,
    letters,
    practitioners,
    wait_until_delivered,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import wait_until

QUICK = KEY | {"FHIRLINE_DELIVERY_TIMEOUT": "2"}
"""A fill waits for what an erasure has begun, by the time of an acknowledgement."""


def test_a_fill_purges_what_was_erased_and_brings_nothing_of_it_back(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """The server refuses the purge at first. Then values come late that no tombstone covers."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    patients = erasable(settings, of_each=2)
    gone = patients[0]
    records = [record for patient in patients for record in patient.records]
    expected = write(settings, [*records, *practitioners(settings, records)])
    kept = {key: value for key, value in expected.items() if key not in gone.keys}
    filled(settings, server.base, environ=QUICK)
    assert differing(server, expected) == []
    assert forget(settings, gone).returncode == 0
    with FaultProxy(server.base, refused={"/$expunge": 405}) as proxy:
        assert f", {len(gone.keys)} deleted, " in filled(settings, proxy.base, environ=QUICK)
    assert reported(settings, gone, tmp_path)["server"] == {"refused-405": len(gone.keys)}
    assert len(remaining(server, gone)) == len(gone.keys)
    assert ", 0 deleted, " in filled(settings, server.base, environ=QUICK)
    assert remaining(server, gone) == []
    assert reported(settings, gone, tmp_path)["server"] == {"purged": len(gone.keys)}
    write(settings, (record for record in gone.records if record.topic != BUNDLE))
    counts = filled(settings, server.base, "--everything", environ=QUICK)
    assert f", {len(gone.keys)} of erased patients passed over" in counts
    assert remaining(server, gone) == []
    assert differing(server, kept) == []
    assert letters(settings) == {}
    with filling(settings, server.base) as process:  # without the key it cannot tell who is erased
        assert process.wait() == 2, process.output


def test_a_patient_who_is_erased_while_a_server_is_busy_is_not_filled(
    own_broker: RunningBroker, ehr_server: EhrServers, tmp_path: Path
) -> None:
    """The fill has read the values. The DELETE Bundle is behind the fill's version, and `deliver` brings it."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    patients = erasable(settings, of_each=2)
    gone = patients[0]
    records = [record for patient in patients for record in patient.records]
    expected = write(settings, [*records, *practitioners(settings, records)])
    with FaultProxy(server.base) as proxy:
        proxy.busy = next(key for key in gone.keys if key.startswith("Patient/"))
        with filling(settings, proxy.base, environ=QUICK) as process:
            wait_until(lambda: proxy.busy in proxy.tried or not process.running, process.output)
            assert forget(settings, gone).returncode == 0
            assert process.wait() == 0, process.output
            assert f", {len(gone.keys)} of erased patients passed over" in process.output
        assert proxy.put.isdisjoint(gone.keys)
        with delivering(settings, server.base, **KEY) as process:
            wait_until_delivered(settings, process)
    assert remaining(server, gone) == []
    assert reported(settings, gone, tmp_path)["server"] == {"purged": len(gone.keys)}
    assert differing(server, {key: value for key, value in expected.items() if key not in gone.keys}) == []
