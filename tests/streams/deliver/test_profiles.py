"""The profile of a server decides how large a transaction is, and which headers it gets."""

from dataclasses import replace

import orjson

from fhirline.topics.declared import BUNDLE
from tests.support.delivery import delivering, differing, golden_records, letters, wait_until_delivered, write
from tests.support.ehr.fixture import EhrServers
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker

MEDPLUM = 50
"""Most entries of a transaction by the profile ``medplum``."""

MODE = "X-Meta-Snapshot-Mode"


def test_a_bundle_with_more_entries_than_the_profile_allows_arrives_in_parts(
    own_broker: RunningBroker, ehr_server: EhrServers
) -> None:
    """The profile is recognised, or chosen; only HAPI gets HAPI's header."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    *several, other = [record for record in golden_records(settings) if record.topic == BUNDLE][:20]
    entries = {
        entry["request"]["url"]: entry for record in several for entry in orjson.loads(record.value or b"")["entry"]
    }
    assert len(entries) > MEDPLUM
    bundle = orjson.loads(several[0].value or b"") | {"entry": [*entries.values()]}
    write(settings, [replace(several[0], value=orjson.dumps(bundle))])
    with FaultProxy(server.base) as proxy:
        with delivering(settings, proxy.base, FHIRLINE_FHIR_PROFILE="medplum") as process:
            assert process.wait_for("the FHIR server is known as")["profile"] == "medplum"
            wait_until_delivered(settings, process)
        assert 1 < proxy.largest <= MEDPLUM
        assert MODE not in proxy.headers
        assert letters(settings) == {}
        assert differing(server, {key: orjson.dumps(entry["resource"]) for key, entry in entries.items()}) == []
        write(settings, [other])
        with delivering(settings, proxy.base) as process:
            known = process.wait_for("the FHIR server is known as")
            assert (known["profile"], known["software"].split()[0], known["tried"]) == ("hapi", "HAPI", True)
            wait_until_delivered(settings, process)
        assert MODE in proxy.headers
