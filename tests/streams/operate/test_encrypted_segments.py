"""The files of a broker, byte by byte, after an erasure and the destruction of the old key-encryption key.

What a process reads from a topic is not all that a disk holds: an older value of a key lies in its segment until
compaction, and a record of a patient until retention ends.
"""

import os
import re
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.encryption.secrets import WrappingKeyMissing, wrapped_by
from fhirline.streams.kafka.headers import KEY_ID, REDRIVE, header
from fhirline.streams.kafka.log_scanner import LogScanner
from fhirline.streams.kafka.records import ConsumerRecord, from_confluent
from fhirline.streams.operate.keys import secrets_file
from fhirline.topics.declared import CONTRIBUTIONS, ERASED, KEYS
from tests.streams.operate.test_encrypted import NO_PATIENT, shown_by, texts
from tests.support import cli
from tests.support.encryption import ENCRYPTION, secrets_of
from tests.support.erasure import SECRET, busiest
from tests.support.kafka.apache import ApacheKafka
from tests.support.kafka.brokers import apache, create_topics, settings_for
from tests.support.planted import planted_events, shows
from tests.support.running_worker import running, wait_until_as
from tests.support.workload import Store, produce, undisturbed

VENDOR = "altibbi"
OF_CONSUMERS = re.compile(r"fhir\.r4\.|normalizer\.outcome-")
"""Beginnings of the folders of topics whose records are in clear on purpose. No other file shows anything,
nor does one of Kafka's own topics."""


def segments(kafka: ApacheKafka) -> dict[Path, bytes]:
    """Return the content of every file of the broker's data, by its path there, without the zeros at its end.

    Kafka reserves megabytes for an index.
    """
    data = kafka.brokers[1].home / "data"
    return {file.relative_to(data): file.read_bytes().rstrip(b"\0") for file in data.rglob("*") if file.is_file()}


def stored(settings: Settings, *wanted: str) -> list[ConsumerRecord]:
    with LogScanner(settings) as scanner:
        topics = [name for name in scanner._consumer.list_topics(timeout=30).topics if name.startswith(wanted)]
        return [from_confluent(item) for item in scanner.stored(dict.fromkeys(scanner.topic_partitions(topics)))]


@pytest.mark.long
def test_no_segment_shows_a_patient_and_nothing_that_is_left_opens_an_erased_one(tmp_path: Path) -> None:
    """Events of all vendors, enriched ones too, letters, a redrive and a replay; ``forget``; a rotation to its end."""
    file = tmp_path / "encryption"
    file.write_text(ENCRYPTION)
    file.chmod(0o600)
    replays = tmp_path / "replays"
    with apache(compression_type="uncompressed") as kafka:  # else a text could lie there and not be found
        create_topics(kafka.bootstrap)
        settings = settings_for(
            kafka.bootstrap,
            session_timeout=6,
            encryption_file=file,
            erasure_key=SECRET,
            replay_dir=replays,
        )
        sealing = settings.model_copy(update={"encryption": SecretStr(ENCRYPTION), "encryption_file": None})
        written = produce(sealing, planted_events(150, seed=21))
        patient = busiest(written)[VENDOR]
        bodies = [orjson.loads(raw.value) for raw in written if raw.value and raw.value.startswith(b"{")]
        planted = {text.encode() for body in bodies for text in texts(body)} | {raw.key or b"-" for raw in written}
        environment = {
            "FHIRLINE_ENCRYPTION_FILE": str(file),
            "FHIRLINE_ERASURE_KEY": SECRET,
            "FHIRLINE_REPLAY_DIR": str(settings.replay_dir),
        }
        command = {**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, **environment}

        def fhirline(*arguments: str, code: int = 0) -> str:
            done = cli.run(*arguments, cwd=tmp_path, env=command)
            assert done.returncode == code, done.stderr
            return done.stdout

        store = Store(settings)
        with running(settings, **environment) as worker:
            wait_until_as(undisturbed(settings, written), store, worker)
            fhirline("dead-letters", "redrive", "--yes", code=1)  # they fail again
            assert "written" in fhirline("replay", "--publish", "--all", code=1)  # and again
        store.close()
        named = ("--vendor", VENDOR, "--tenant", patient.tenant, "--patient", patient.key)
        fhirline("forget", *named, "--yes", "--reason", "test", "--settle", "0")
        fhirline("keys", "rotate", "--kek", "2026-11", "--yes")
        fhirline("keys", "rotate", "--activate", "2026-11", "--yes")
        fhirline("keys", "rewrap", "--yes")
        assert "removed: 2026-05" in fhirline("keys", "destroy-old", "--yes", "--unused-for", "0")

        topics = ("raw.", "dead-letter.", "normalizer.state.")
        records = stored(settings, *topics)
        assert {topic for topic in topics if any(record.topic.startswith(topic) for record in records)} == {*topics}
        assert any(header(record.headers, REDRIVE) for record in records)
        professional = [
            *(record for record in records if (record.key or b"").startswith(NO_PATIENT)),
            *stored(settings, CONTRIBUTIONS),
        ]
        open_ = b"\n".join(map(shown_by, professional))  # with their headers, which name types of events
        searched = {text for text in planted if text not in open_}
        assert len(searched) > 300
        assert patient.raw_key.encode() in searched
        files = segments(kafka)
        in_clear = {path for path in files if OF_CONSUMERS.match(str(path))}
        shown = {path for path, content in files.items() if shows(content)}
        assert {path.parent.name.rpartition("-")[0] for path in shown} >= {"fhir.r4.Patient", "fhir.r4.bundle"}
        assert shown <= in_clear
        searched_in = {path.parent.name.rpartition("-")[0] for path in files.keys() - in_clear}
        assert searched_in >= {KEYS, ERASED, CONTRIBUTIONS, "__consumer_offsets"}
        for path in files.keys() - in_clear:
            found = [text for text in searched if text in files[path]]
            assert not found, f"{path} shows {len(found)} of them"
        opens_with_nothing(settings, records, secrets_of(settings).index(patient.partition_key))
        assert [*secrets_file.read(file).keks] == ["2026-11"]


def opens_with_nothing(settings: Settings, records: list[ConsumerRecord], index: str) -> None:
    """Check that no value that the log of data keys has ever held unwraps a key of the patient's records."""
    mine = [record for record in records if is_sealed(record) and (record.key or b"").startswith(index.encode())]
    assert {record.topic.partition(".")[0] for record in mine} >= {"raw", "normalizer"}
    secrets = secrets_of(settings)
    log = stored(settings, KEYS)
    newest = {record.key: record.value for record in log}
    opener = Opener(settings)
    for record in mine:
        name = f"{index}/{header(record.headers, KEY_ID)}"
        held = [item.value for item in log if item.key == name.encode() and item.value]
        assert held, "compaction has removed it, and this shows nothing"
        assert newest[name.encode()] is None
        for value in held:
            assert wrapped_by(value) == "2026-05"
            with pytest.raises(WrappingKeyMissing):
                secrets.unwrap(name, value)
        assert opener.open_now(record).key_destroyed
    others = [record for record in records if is_sealed(record) and record not in mine and record.value]
    assert others
    assert not [record for record in others if is_sealed(opener.open_now(record))], "others cannot be read any more"
    opener.close()
