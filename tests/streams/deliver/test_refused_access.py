"""A FHIR server that refuses access, or a method, with a status of its own or with one of an entry in a 200."""

import pytest

from fhirline.streams.deliver.entries import entries_of, patients_of
from fhirline.topics.declared import BUNDLE
from tests.streams.deliver.test_authorization import by_secret, ended_as_refused, some_records, token_server
from tests.support.delivery import (
    delivering,
    differing,
    lag,
    letters,
    run_command,
    wait_until_delivered,
    waiting,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import wait_until

SOME = 15
"""One in so many golden cases."""


@pytest.mark.parametrize("fault", [403, "hidden-403"])
def test_a_missing_privilege_ends_the_process(
    own_broker: RunningBroker, ehr_server: EhrServers, fault: int | str
) -> None:
    """With nothing committed, and nothing repeated: it would be the same for every Bundle."""
    settings, server = own_broker.settings(), ehr_server()
    write(settings, some_records(settings, SOME))
    total = lag(settings)
    with FaultProxy(server.base, [fault] * 10_000) as proxy, delivering(settings, proxy.base) as process:
        ended_as_refused(process, "forbids this client what it needs (403)")
        assert sum(proxy.answered.values()) <= total, "no Bundle is sent twice"
    assert lag(settings) == total
    assert letters(settings) == {}


def test_an_entry_without_access_gets_one_new_token(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """With which all is delivered; where an entry is refused with that one, too, the process ends."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    expected = write(settings, some_records(settings, SOME))
    with token_server() as tokens:
        environ = {**by_secret("client_secret_basic"), "FHIRLINE_FHIR_OAUTH_TOKEN_URL": tokens.url}
        with (
            FaultProxy(server.base, ["hidden-401"], tokens.accepts) as proxy,
            delivering(settings, proxy.base, **environ) as process,
        ):
            wait_until_delivered(settings, process)
            assert proxy.answered == {"hidden-401": 1}
        assert tokens.asked == 2
        assert letters(settings) == {}
        assert differing(server, expected) == []
        write(settings, some_records(settings, SOME + 1))
        with (
            FaultProxy(server.base, ["hidden-401"] * 10_000, tokens.accepts) as proxy,
            delivering(settings, proxy.base, **environ) as process,
        ):
            ended_as_refused(process, "refuses the credentials (401)")
        assert lag(settings) > 0
    assert letters(settings) == {}


def test_an_entry_whose_method_is_refused_parks_its_patient(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """All other patients go on, since the server takes their transactions; resumed, it waits no longer."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    records = [*some_records(settings, SOME)]
    entries = [entries_of(record.value) for record in records if record.topic == BUNDLE]
    patient = next(key for found in entries for key in sorted(patients_of(found)) if key.startswith("Patient/"))
    theirs = {entry.key for found in entries if patient in patients_of(found) for entry in found}
    expected = write(settings, records)
    with (
        FaultProxy(server.base, poisoned=[patient.partition("/")[2]], refusal="hidden-405") as proxy,
        delivering(settings, proxy.base) as process,
    ):
        wait_until_delivered(settings, process)
        assert {key for item in waiting(settings) for key in item["patients"]} == {patient}
        [letter] = letters(settings).values()
        assert letter["status"] == 405
        assert letter["issues"] == [{"severity": "error", "code": "not-supported", "places": []}]
        assert differing(server, {key: value for key, value in expected.items() if key not in theirs}) == []
        proxy.poisoned.clear()
        assert run_command("deliver", "resume", "--all", settings=settings).returncode == 0
        wait_until(lambda: not waiting(settings) or not process.running, lambda: process.report("does not resume"))
    assert process.exit_code == 0, process.report("did not end in order")
    assert differing(server, expected) == []
