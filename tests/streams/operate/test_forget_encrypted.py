"""Erasure with encryption on: what stays on the topics can be read no more, and nothing else is lost."""

import os
from collections.abc import Callable, Iterable
from itertools import count

import pytest
from confluent_kafka import Message

from fhirline.streams.kafka.encryption.data_key import DataKey
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.forget import Erasure
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from fhirline.topics.declared import KEYS, raw_topic, state_topic
from fhirline.topics.partition import partition_for
from tests.support import cli
from tests.support.encrypted_deployment import KEPT, OWN, VENDOR, Deployment, check_erased
from tests.support.encryption import Sealer, secrets_of
from tests.support.running_worker import running
from tests.support.waiting import wait_until
from tests.support.workload import Store, produce, undisturbed


def test_what_is_kept_of_an_erased_patient_can_be_read_no_more(deployment: Deployment) -> None:
    before = deployment.readable(*KEPT)
    mine = deployment.mine(before)
    assert {record.topic for record in mine} >= {raw_topic(VENDOR), state_topic(VENDOR)}
    report = deployment.erase()
    assert (report.complete, report.data_keys, report.data_keys_wrapped_by) == (True, 1, ["2026-05"])
    assert not [left for left in report.remaining if left.topic == raw_topic(VENDOR)], "nobody can read them"
    check_erased(deployment, before)
    again = deployment.erase()
    assert (again.complete, again.data_keys, again.tombstones.total(), again.state) == (True, 0, 0, 0)
    check_erased(deployment, before)


@pytest.mark.long
@pytest.mark.parametrize("crash_at", range(7))
def test_another_run_destroys_the_keys_after_a_crash(
    deployment: Deployment, crash_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash comes before each of the writes in turn: block, Bundle, tombstones, markers, keys."""
    before, calls, publish = deployment.readable(*KEPT), count(), RecordPublisher.publish

    def crashing(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> object:
        if next(calls) == crash_at:
            raise PublishFailed("crash")
        return publish(self, records, delivered)

    with monkeypatch.context() as patched:
        patched.setattr(RecordPublisher, "publish", crashing)
        with pytest.raises(PublishFailed, match="crash"):
            deployment.erase()
    assert deployment.erase().complete
    check_erased(deployment, before)


@pytest.mark.long
def test_an_event_that_comes_later_is_passed_over_and_after_a_lift_mapped(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is sealed with a key that a gateway made after the erasure."""
    deployment.erase()
    settings, sealer = deployment.settings, Sealer(deployment.settings)
    late = sealer(deployment.event(1))
    produce(settings, [*sealer.made, late])
    assert deployment.mine(deployment.readable(raw_topic(VENDOR))) == []
    with running(settings, **OWN) as worker:
        wait_until(lambda: "erased patient passed over" in "\n".join(worker.printed), "the event was not read")
        environment = {**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, **OWN}
        named = ("--vendor", VENDOR, "--tenant", deployment.patient.tenant, "--patient", deployment.patient.key)
        refused = cli.run("forget", *named, "--lift", "--yes", "--reason", "returns", env=environment)
        assert refused.returncode == 2
        dry = cli.run("forget", *named, "--lift", "--dry-run", env=environment)
        assert (dry.returncode, dry.stderr) == (2, refused.stderr)
        assert "a gateway may use a destroyed data key until 20" in refused.stderr
        assert "Z, and events" in refused.stderr
        monkeypatch.setattr("fhirline.streams.operate.erasure.keys.USED_SECONDS", -1e6)  # an hour and more later
        erasure = Erasure(settings, deployment.patient)
        assert erasure.in_use_until() is None
        assert erasure.lift(erasure.find()) == 1
        erasure.close()
        newest = Sealer(settings)
        back = newest(deployment.event(2))
        [raw] = [raw for raw in produce(settings, [*newest.made, back]) if raw.topic != KEYS]
        expected = undisturbed(settings, [raw])
        store = Store(settings)
        wait_until_as_far(expected, store)
        store.close()


def wait_until_as_far(expected: dict[str, bytes], store: Store) -> None:
    """Wait until the store has every key that is expected."""

    def there() -> bool:
        store.read()
        return all(store.values.get(name) for name in expected if name.startswith("fhir.r4.Provenance"))

    wait_until(there, "the event was not mapped")


@pytest.mark.long
def test_a_copy_of_another_producers_record_goes_with_its_patient(deployment: Deployment) -> None:
    """Outside the patient's partition `keys encrypt-existing` gives it a data key that no patient's key leads to."""
    settings, secrets = deployment.settings, secrets_of(deployment.settings)
    own = partition_for(deployment.patient.raw_key, settings.partitions)
    elsewhere = (own + 1) % settings.partitions
    key = DataKey.new(secrets, secrets.index(f"{VENDOR}|acme|record/raw.{VENDOR}/0/0"), elsewhere)
    event = deployment.event(9)
    copy = ProducerRecord(event.topic, b"n", event.value, elsewhere, headers(tenant="acme"), 1, data_key=key)
    produce(settings, [key.record(elsewhere)])
    [raw] = produce(settings, [copy])
    store = Store(settings)
    with running(settings, **OWN):
        wait_until_as_far(undisturbed(settings, [raw]), store)
    store.close()
    report = deployment.erase()
    assert (report.complete, report.data_keys) == (True, 2)
    assert raw.position not in {record.position for record in deployment.readable(*KEPT)}
    state = {record.key: record.value for record in deployment.stored(KEPT[2]) if record.partition == elsewhere}
    assert not [name for name, value in state.items() if (name or b"").startswith(key.index.encode()) and value]
