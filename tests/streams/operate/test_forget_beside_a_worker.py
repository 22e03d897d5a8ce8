"""``fhirline forget``, killed at random moments beside a running worker, with encryption on."""

from contextlib import closing

import pytest

from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import from_confluent
from fhirline.topics.declared import ERASED, KEYS, raw_topic
from tests.streams.operate.test_keys_killed import KILLS, Killed
from tests.support.encryption import ENCRYPTION
from tests.support.erasure import KEY, all_committed, busiest, canonical_names, changed, of, ordered, values, wait_until
from tests.support.kafka.brokers import RunningBroker
from tests.support.last_records import ALL, held, live_names, tombstones
from tests.support.running_worker import wait_until_as
from tests.support.workers import Workers
from tests.support.workload import Store, events, produce, undisturbed

VENDOR = "altibbi"


@pytest.mark.long
def test_nothing_of_the_patient_is_left_and_nothing_of_others_is_lost(
    own_broker: RunningBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Events of the patient and of others arrive between the kills.

    The worker has a supervisor: where the patient is erased while a batch of theirs is mapped, it ends uncommitted.
    """
    settings = own_broker.settings(session_timeout=6, encryption=ENCRYPTION, erasure_key=KEY["FHIRLINE_ERASURE_KEY"])
    own = {**KEY, "FHIRLINE_ENCRYPTION": ENCRYPTION, "FHIRLINE_DELIVERY_TIMEOUT": "10"}
    raws = produce(settings, events(150, seed=11))
    patient = busiest(raws)[VENDOR]
    named = ("--vendor", VENDOR, "--tenant", patient.tenant, "--patient", patient.key)
    store, kills = Store(settings), list[int | None]()
    with Workers(settings, 1, **own) as workers:
        worker = workers.here[0]
        wait_until_as(undisturbed(settings, raws), store, worker.process)
        known = canonical_names(settings, [raw for raw in raws if of(raw, [patient])])
        command = ("forget", *named, "--yes", "--reason", "test")
        with closing(Killed(settings, (ERASED, KEYS), command, **own)) as killed:
            for number in range(KILLS):
                kills.append(killed.kill(3))
                late = changed(raws, patient, late=number)
                others = [changed(raws, patient, user_id=f"{7_000 + number}{n}") for n in range(4)]
                raws = ordered([*raws, *produce(settings, [late, *others])])
            killed.finish()
        raws = ordered([*raws, *produce(settings, [changed(raws, patient, late="after")])])
        kept = undisturbed(settings, [raw for raw in raws if not of(raw, [patient])])
        wait_until(lambda: kept.items() <= values(store, kept).items(), store, worker)
        wait_until(lambda: all_committed(settings, raws), store, worker)
    store.close()
    after = held(settings, *ALL)
    assert known <= tombstones(after)
    gone = canonical_names(settings, [raw for raw in raws if of(raw, [patient])])
    assert not live_names(after) & gone
    assert workers.logged["erased patient passed over"]
    with Scanner(settings) as scanner:
        places = scanner.topic_partitions([raw_topic(VENDOR), f"dead-letter.{VENDOR}"])
        left = [from_confluent(item) for item in scanner.read(dict.fromkeys(places))]
    assert not [record.position for record in left if record.key == patient.raw_key.encode()]
    readable = {record.position for record in left}
    assert {raw.position for raw in raws if raw.vendor == VENDOR and not of(raw, [patient])} <= readable
    with capsys.disabled():
        print(f"\nrecords that a killed erasure had written: {kills}\n{workers}")
    assert [count for count in kills if count is not None], "no kill came before the end"
