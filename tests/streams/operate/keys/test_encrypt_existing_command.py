"""``fhirline keys encrypt-existing`` as a command, on the embedded broker, which cannot delete records."""

import os
from contextlib import closing

import confluent_kafka
from confluent_kafka import Consumer

from fhirline.config.settings import Settings
from fhirline.streams.kafka.clients import librdkafka
from fhirline.streams.kafka.headers import COPY_OF, header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord
from fhirline.topics.declared import raw_topic, state_topic
from tests.streams.operate.keys.conftest import ERASURE_KEY, PARTITIONS
from tests.streams.operate.keys.plain import FEW, of_few, stored
from tests.support import cli
from tests.support.encryption import ENCRYPTION
from tests.support.processes import command
from tests.support.waiting import wait_until
from tests.support.workload import produce

NAMED = (*map(raw_topic, FEW),)


def copies(settings: Settings) -> list[ConsumerRecord]:
    return [record for record in stored(settings, *NAMED) if header(record.headers, COPY_OF)]


def test_a_broker_that_cannot_delete_is_told_of_and_keep_is_asked_for_only_where_it_is_of_use(
    settings: Settings,
) -> None:
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_PARTITIONS": str(PARTITIONS),
        "FHIRLINE_ENCRYPTION": ENCRYPTION,
        "FHIRLINE_ERASURE_KEY": ERASURE_KEY,
    }

    def run(*options: str, code: int = 0) -> str:
        done = cli.run("keys", "encrypt-existing", *options, env=environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    for options in (("--dry-run",), ("--yes",), ("--yes", "--keep")):
        said = run(*options)
        assert "Nothing to encrypt." in said
        assert "--keep" not in said
    written = produce(settings, of_few(4, seed=4), in_clear=True)
    said = run("--dry-run")
    assert "Nothing was done. This embedded broker cannot delete records" in said
    assert "--keep" not in said
    assert "--keep: required here. This embedded broker cannot delete records" in run("--yes", code=2)
    assert len(stored(settings, *NAMED)) == len(written), "nothing was copied"
    said = run("--yes", "--keep", "--reason", "trying it")
    assert "what is plain stays until it ends" in said
    assert "kafka-delete-records" not in said
    assert '"reason":"trying it"' in said.replace('": "', '":"')
    assert len(copies(settings)) == len(written)


def test_a_process_that_writes_in_clear_after_copying_has_begun_ends_it_with_1(settings: Settings) -> None:
    """Nothing is removed, and another run, once that process encrypts, does the rest."""
    first, second, late = of_few(3, seed=4)
    written = produce(settings, [first, second], in_clear=True)
    place = written[0].topic_partition
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_GROUP": settings.group,
        "FHIRLINE_PARTITIONS": str(PARTITIONS),
        "FHIRLINE_ENCRYPTION": ENCRYPTION,
        "FHIRLINE_ERASURE_KEY": ERASURE_KEY,
    }
    arguments = ("keys", "encrypt-existing", "--yes", "--keep")
    with closing(Consumer(librdkafka(settings, **{"group.id": settings.group}))) as group:

        def commit(offset: int) -> None:
            group.commit(offsets=[confluent_kafka.TopicPartition(*place, offset)], asynchronous=False)

        commit(0)  # the command waits until the group has read the copies
        with command(*arguments, environ=environment) as process:
            wait_until(lambda: len(copies(settings)) == 2 or not process.running, "nothing is copied")
            assert process.running, process.output
            [plain] = produce(settings, [late], in_clear=True)
            commit(1_000)
            assert process.wait() == 1, process.output
    assert f"{plain.position} was written plain since this began: restart gateway or ingest" in process.output
    assert "nothing was removed; what is done is kept" in process.output
    said = cli.run(*arguments, env=environment)
    assert said.returncode == 0, said.stderr
    sources = {header(record.headers, COPY_OF) for record in copies(settings)}
    assert sources >= {str(record.position) for record in (*written, plain)}


def test_what_another_program_wrote_to_a_topic_of_state_stays_and_is_named(settings: Settings) -> None:
    """It may hold a patient's data in clear: the operator has to know where."""
    topic = state_topic("mediquo")
    entry = b'{"s":[1717243205,"125","key","2024-06-01T12:00:05.125Z"],"v":"Planted"}'
    keys = [b'["acme|1","Patient/1","name"]', b"acme|2", b"gone", b'["acme|3","Patient/3","name"]', b"null"]
    values = [b'{"name": "Planted"}', b"Planted", b"Planted", entry, None]
    written = produce(settings, [ProducerRecord(topic, *item, 0) for item in zip(keys, values, strict=True)])
    produce(settings, [ProducerRecord(topic, b"gone", None, 0)])
    environment = {
        **os.environ,
        "FHIRLINE_BOOTSTRAP": settings.bootstrap,
        "FHIRLINE_PARTITIONS": str(PARTITIONS),
        "FHIRLINE_ENCRYPTION": ENCRYPTION,
        "FHIRLINE_ERASURE_KEY": ERASURE_KEY,
    }
    named = (
        "state             2 records in clear that fhirline did not write, which it leaves as they are: "
        f"{written[0].position}, {written[1].position}\n"
    )
    for options in (("--dry-run",), ("--yes", "--keep")):
        done = cli.run("keys", "encrypt-existing", *options, env=environment)
        assert done.returncode == 0, done.stderr
        assert named in done.stdout
    assert "1 entry encrypted" in done.stdout
    done = cli.run("keys", "encrypt-existing", "--yes", "--keep", env=environment)
    assert named in done.stdout
    assert "Nothing to encrypt." in done.stdout
    found = {record.key: record.value for record in stored(settings, topic)}
    assert [found[key] for key in keys] == [*values[:2], None, None, None]
