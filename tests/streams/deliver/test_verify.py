"""``fhirline deliver verify`` finds what is wrong at a real FHIR server, and nothing else."""

from dataclasses import replace

import orjson
import pytest

from fhirline.topics.declared import BUNDLE
from tests.streams.deliver.test_fill import golden, records_by_key
from tests.support.delivery import filled, run_command, versions, write
from tests.support.ehr.fixture import EhrServers
from tests.support.kafka.brokers import RunningBroker


def test_each_kind_of_difference_is_told_by_id(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    records = [item for item in golden(settings) if item.topic != BUNDLE]
    expected = write(settings, records)
    filled(settings, server.base)
    before = versions(server, expected)
    clean = run_command("deliver", "verify", "--server", server.base, settings=settings)
    assert clean.returncode == 0, clean.stderr
    assert clean.stdout.splitlines()[2] == f"equal\t{len(records_by_key(records))}"
    assert versions(server, expected) == before

    current = records_by_key(records)
    missing, erased = sorted(key for key in current if key.startswith("Provenance/"))[:2]
    different, older = sorted(key for key in current if key.startswith("Patient/"))[:2]
    foreign = "Patient/nobody-knows"
    assert server.send("DELETE", missing).status == 200
    patient = orjson.loads(current[different].value or b"")
    changed = {**patient, "birthDate": "1902-03-04"}
    assert server.send("PUT", different, changed).status == 200
    assert server.send("PUT", foreign, {**changed, "id": foreign.partition("/")[2]}).status == 201
    newer = orjson.loads(current[older].value or b"") | {"birthDate": "1905-06-07"}
    write(settings, [replace(current[older], value=orjson.dumps(newer)), replace(current[erased], value=None)])

    told = run_command("deliver", "verify", "--server", server.base, "--json", settings=settings)
    assert told.returncode == 1, told.stderr
    assert orjson.loads(told.stdout) == {
        "checked": len(current),
        "equal": len(current) - 4,
        "found": {
            "missing": [missing],
            "older": [older],
            "different": [different],
            "not-deleted": [erased],
            "foreign": [foreign],
        },
        "waiting": [],
        "unsearched": {},
    }
    table = run_command("deliver", "verify", "--server", server.base, settings=settings)
    assert f"not-deleted\t{erased}\t-" in table.stdout.splitlines()
    assert not {"1902-03-04", "1905-06-07"} & set(table.stdout.replace("\t", " ").split())


@pytest.mark.long
def test_a_server_that_gives_no_answer_is_named(own_broker: RunningBroker) -> None:
    settings = own_broker.settings()
    write(settings, list(records_by_key(golden(settings)).values())[:1])
    away = run_command("deliver", "verify", "--server", "http://127.0.0.1:9/fhir", settings=settings)
    assert (away.returncode, away.stdout) == (2, "")
    assert "http://127.0.0.1:9/fhir does not answer reads (unreachable)" in away.stderr
