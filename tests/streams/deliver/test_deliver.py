"""``fhirline deliver`` as a process, from a real broker to a real FHIR server."""

from tests.support.delivery import (
    delivering,
    differing,
    golden_records,
    letters,
    versions,
    wait_until_delivered,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.kafka.brokers import RunningBroker


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
