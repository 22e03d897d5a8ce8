"""``fhirline doctor`` on the encryption of events: its secrets, its keys, and what is kept in clear."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.demo.embedded_broker import EmbeddedBroker
from fhirline.streams.kafka.encryption.key_ring import DESTROYED
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.doctor import configuration, encryption, examine
from fhirline.streams.operate.doctor.finding import Level
from fhirline.topics.declared import KEYS, raw_topic
from tests.support.doctor import NOWHERE, OK, PROBLEM, WARNING, said
from tests.support.encryption import ENCRYPTION, INDEX, NEW, OLD, ROTATED, sealed
from tests.support.kafka.brokers import RunningBroker, create_topics, settings_for
from tests.support.waiting import LIMIT
from tests.support.workload import events, produce

CHECK = encryption.CHECK


@pytest.fixture
def plain() -> Iterator[Settings]:
    """Settings without encryption, of a broker with all topics."""
    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap)
        yield RunningBroker("embedded", broker.bootstrap).settings()


def at_the_cluster(settings: Settings, *, online: bool = False) -> list[tuple[Level, str]]:
    return said(encryption.at_the_cluster(settings, online), CHECK)


def with_secrets(settings: Settings, secrets: str) -> Settings:
    return Settings(**settings.model_dump(exclude={"encryption"}), encryption=secrets, _env_file=None)


def test_the_secrets_are_set_and_can_be_read(tmp_path: Path) -> None:
    [(level, text)] = said([encryption.secrets(settings_for(NOWHERE))], CHECK)
    assert level is WARNING
    assert "stay readable after `fhirline forget`" in text
    for wrong, words in (("index:12", "entry 1 is not of the form"), (f"index:{INDEX}", "no key-encryption key")):
        finding = encryption.secrets(settings_for(NOWHERE, encryption=wrong))
        assert (finding.level, finding.unusable) == (PROBLEM, True)
        assert words in finding.text
    path = tmp_path / "encryption"
    absent = encryption.secrets(settings_for(NOWHERE, encryption_file=path))
    assert (absent.level, "No such file" in absent.text) == (PROBLEM, True)
    path.write_text(ROTATED, "utf-8")
    levels = []
    for mode in (0o644, 0o600):
        path.chmod(mode)
        settings = settings_for(NOWHERE, encryption_file=path)
        levels.append(said(configuration.secret_files(settings), "secret files")[0][0])
    assert levels == [WARNING, OK]
    [(level, text)] = said([encryption.secrets(settings)], CHECK)
    assert (level, text) == (OK, "new data keys are wrapped by 2026-11; 2 key-encryption keys in all")
    assert not any(secret in text for secret in (INDEX, OLD, NEW))


def test_events_in_clear_are_counted_at_both_ends(plain: Settings) -> None:
    assert at_the_cluster(plain) == []
    encrypting = with_secrets(plain, ENCRYPTION)
    assert at_the_cluster(encrypting) == [(OK, "no event is kept yet")]
    made = [event for event in events(400, seed=3) if event.topic == raw_topic("altibbi")]
    produce(plain, made[:6])
    [(first, newest), (second, oldest)] = at_the_cluster(encrypting)
    assert (first, second) == (WARNING, WARNING)
    assert newest == "newest events in clear: raw.altibbi 6 of 6"
    assert oldest == "oldest events in clear: raw.altibbi"
    one_partition = [event.__class__(event.topic, event.key, event.value, 0) for event in made]
    keys, raws = sealed(encrypting, one_partition * 9)
    produce(encrypting, [*keys, *raws])
    # Of partition 0 the plain events are no more among the newest, and still among the oldest.
    *_, (level, oldest) = at_the_cluster(encrypting)
    assert (level, oldest) == (WARNING, "oldest events in clear: raw.altibbi")
    [(level, text)] = at_the_cluster(plain)
    assert level is PROBLEM
    assert "raw.altibbi: events are encrypted, and FHIRLINE_ENCRYPTION is not set" in text


def test_encrypted_events_and_the_keys_that_open_them(plain: Settings) -> None:
    old = with_secrets(plain, ENCRYPTION)
    keys, raws = sealed(old, events(40, seed=3))
    gone = ProducerRecord(KEYS, keys[0].key + f"/{DESTROYED}".encode(), b"2026-11-27T00:00:00Z", keys[0].partition)
    produce(old, [*keys, gone, *raws])
    assert at_the_cluster(old) == [(OK, "the newest and the oldest events are encrypted")]
    for secrets in (ENCRYPTION, ROTATED):
        *_, found = at_the_cluster(with_secrets(plain, secrets), online=True)
        assert found == (OK, f"data keys: 2026-05 wraps {len(keys) - 1}; destroyed: 1; erased patients: 0")
    for secrets, words in (
        (f"index:{INDEX} 2026-11:{NEW}", "key-encryption key 2026-05 is not set"),
        (f"index:{INDEX} 2026-05:{NEW}", "key-encryption key 2026-05 is set with another value"),
    ):
        *_, (level, text) = at_the_cluster(with_secrets(plain, secrets), online=True)
        assert level is PROBLEM
        assert text == f"{len(keys) - 1} data keys of normalizer.keys cannot be unwrapped: {words}"
        assert at_the_cluster(with_secrets(plain, secrets))[-1][0] is OK  # only --online reads the keys


def test_secrets_that_cannot_be_read_are_one_problem(plain: Settings) -> None:
    """The checks that open events are left out: they would fail for the same reason."""
    wrong = with_secrets(plain, "index:12")
    found = [*examine.local(wrong, {}), *examine.at_the_cluster(wrong, timeout=LIMIT)]
    [of_the_secrets] = [finding for finding in found if "entry 1 is not of the form" in finding.text]
    assert (of_the_secrets.check, of_the_secrets.level) == (CHECK, PROBLEM)
    assert {"topics", "dead letters"} <= {finding.check for finding in found}, "the other checks ran"


def test_a_missing_topic_of_keys_is_a_problem() -> None:
    with EmbeddedBroker() as broker:
        [(level, text)] = at_the_cluster(settings_for(broker.bootstrap, encryption=ENCRYPTION))
    assert level is PROBLEM
    assert "topic normalizer.keys is missing" in text
