"""A Bundle topic that is deleted and made anew, while the delivery's state stays: on a real Apache Kafka."""

from collections.abc import Iterator
from dataclasses import replace

import orjson
import pytest
from confluent_kafka.admin import AdminClient

from fhirline.config.settings import Settings
from fhirline.streams.deliver.entries import entries_of, patients_of
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.kafka.topic_id import topic_id
from fhirline.topics.declared import BUNDLE
from tests.streams.deliver.test_authorization import some_records
from tests.support.delivery import (
    delivering,
    differing,
    filled,
    run_command,
    wait_until_delivered,
    waiting,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import LIMIT, wait_until

SOME = 15
"""One in so many golden cases."""


@pytest.mark.parametrize("own_broker", ["apache"], indirect=True)
def test_offsets_of_an_earlier_topic_keep_nothing_back(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    """The delivery ends and says what to do. After a fill, Bundles at low offsets are sent, or wait, as any other."""
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    first = [*some_records(settings, SOME)]
    bundles = [entries_of(record.value) for record in first if record.topic == BUNDLE]
    poisoned = next(key for found in bundles for key in sorted(patients_of(found)) if key.startswith("Patient/"))
    theirs = {entry.key for found in bundles if poisoned in patients_of(found) for entry in found}

    def others(expected: dict[str, bytes | None]) -> dict[str, bytes | None]:
        return {key: value for key, value in expected.items() if key not in theirs}

    expected = write(settings, first)
    write(settings, changed(first, 0))
    expected = write(settings, changed(first, 1))
    with FaultProxy(server.base, poisoned=[poisoned.partition("/")[2]]) as proxy:
        with delivering(settings, proxy.base) as process:
            wait_until_delivered(settings, process)
        assert differing(server, others(expected)) == []
        assert patients(settings) == {poisoned}
        make_anew(settings)
        expected = write(settings, changed(first, 2))
        with delivering(settings, proxy.base) as process:
            wait_until(lambda: not process.running, lambda: process.report("does not end"))
            assert process.exit_code == 2, process.report("ended otherwise")
            assert "topic fhir.r4.bundle was made anew" in process.output
            assert "fhirline deliver --from topics" in process.output
        filled(settings, proxy.base, code=1)
        assert differing(server, others(expected)) == []
        expected = write(settings, changed(first, 3))
        with delivering(settings, proxy.base) as process:
            wait_until_delivered(settings, process)
            assert differing(server, others(expected)) == []
            assert patients(settings) == {poisoned}
            proxy.poisoned.clear()
            assert run_command("deliver", "resume", "--all", settings=settings).returncode == 0
            wait_until(lambda: not waiting(settings) or not process.running, lambda: process.report("does not resume"))
        assert process.exit_code == 0, process.report("did not end in order")
    assert differing(server, expected) == []


def changed(records: list[ProducerRecord], number: int) -> Iterator[ProducerRecord]:
    """Yield the records with another value of each Patient, in its topic and in its Bundles."""
    for record in records:
        value = orjson.loads(record.value or b"null")
        for resource in [value, *(entry.get("resource") for entry in (value or {}).get("entry", ()))]:
            if resource and resource["resourceType"] == "Patient":
                resource["multipleBirthInteger"] = number
        yield replace(record, value=orjson.dumps(value)) if value else record


def patients(settings: Settings) -> set[str]:
    """Return whose Bundles wait."""
    return {key for item in waiting(settings) for key in item["patients"]}


def make_anew(settings: Settings) -> None:
    """Delete the Bundle topic, and make it as `topics apply` does."""
    before = topic_id(settings, BUNDLE)
    client = AdminClient(librdkafka(settings))
    client.delete_topics([BUNDLE], operation_timeout=LIMIT)[BUNDLE].result()
    wait_until(lambda: BUNDLE not in client.list_topics(timeout=LIMIT).topics, "the topic is still there")
    applied = run_command("topics", "apply", "--yes", settings=settings)
    assert applied.returncode == 0, applied.stderr
    assert topic_id(settings, BUNDLE) not in ("", before)
