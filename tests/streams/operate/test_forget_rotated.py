"""Data keys that are wrapped again, before and after an erasure, and the file of the secrets that wrap them."""

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from fhirline.streams.kafka.encryption.secrets import WrappingKeyMissing, wrapped_by
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.keys import secrets_file
from fhirline.streams.operate.keys.data_keys import DataKeys
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from fhirline.topics.declared import KEYS
from tests.support import cli
from tests.support.encrypted_deployment import KEPT, Deployment, check_erased
from tests.support.encryption import ENCRYPTION, ROTATED, secrets_of
from tests.support.workload import produce


@pytest.mark.long
def test_rotated_keys_open_what_was_there_and_the_old_one_completes_the_erasure(
    deployment: Deployment, tmp_path: Path
) -> None:
    """``fhirline keys``, as the runbook has it. What was wrapped for the patient can be unwrapped by nothing then."""
    settings, secrets = deployment.settings, tmp_path / "encryption"
    secrets.write_text(ENCRYPTION)
    secrets.chmod(0o600)
    environment = {**os.environ, "FHIRLINE_BOOTSTRAP": settings.bootstrap, "FHIRLINE_ENCRYPTION_FILE": str(secrets)}

    def keys(*arguments: str, code: int = 0) -> str:
        done = cli.run("keys", *arguments, env=environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    before = deployment.readable(*KEPT)
    deployment.erase()
    [wrapped] = [
        (record.key, record.value)
        for record in deployment.stored(KEYS)
        if (record.key or b"").startswith(deployment.index.encode()) and wrapped_by(record.value or b"")
    ]
    keys("rotate", "--kek", "2026-11", "--yes")
    keys("rotate", "--activate", "2026-11", "--yes")
    assert "would be lost" in keys("destroy-old", "--yes", code=1)
    living = orjson.loads(keys("list", "--json"))["keks"]
    assert [(row["kek"], row["use"]) for row in living] == [("2026-11", "wraps"), ("2026-05", "unwraps")]
    assert living[1]["living"] > 5
    assert "Nothing was done" in keys("rewrap", "--dry-run")
    copy = "Copy normalizer.keys into its backups before `fhirline keys destroy-old`"
    rewrapped = keys("rewrap", "--yes", "--as", "Ana")
    assert f"{living[1]['living']} data keys wrapped with 2026-11, 0 destroyed" in rewrapped
    assert copy in rewrapped
    assert copy not in keys("rewrap", "--yes"), "nothing was wrapped, so no earlier copy became older"
    assert "within 24 hours" in keys("destroy-old", "--yes", code=1)
    assert "removed: 2026-05" in keys("destroy-old", "--yes", "--unused-for", "0")
    assert "key-encryption key 2026-05 is missing" not in keys("list")
    rotated = Deployment(
        settings.model_copy(update={"encryption": None, "encryption_file": secrets}),
        deployment.raws,
        deployment.patient,
    )
    check_erased(rotated, before)
    with pytest.raises(WrappingKeyMissing):
        secrets_of(rotated.settings).unwrap((wrapped[0] or b"").decode(), wrapped[1] or b"")


@pytest.mark.long
def test_a_key_that_is_wrapped_again_after_its_tombstone_stays_destroyed(deployment: Deployment) -> None:
    """A rewrap that had read the key before the erasure writes it after."""
    secrets = secrets_of(deployment.settings)
    [key] = [key for key in deployment.stored(KEYS) if (key.key or b"").startswith(deployment.index.encode())]
    before = deployment.readable(*KEPT)
    deployment.erase()
    produce(deployment.settings, [ProducerRecord(KEYS, key.key or b"", key.value, key.partition)])
    assert deployment.mine(deployment.readable(*KEPT)) == []
    data_keys = DataKeys(deployment.settings, secrets)
    assert data_keys.rewrap().removed == 1
    data_keys.close()
    check_erased(deployment, before)


@pytest.mark.long
def test_a_rewrap_that_was_interrupted_is_finished_by_another_run(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated = deployment.settings.model_copy(update={"encryption": SecretStr(ROTATED)})
    before, publish, calls = deployment.readable(*KEPT), RecordPublisher.publish, count()
    monkeypatch.setattr("fhirline.streams.operate.keys.data_keys.BATCH", 3)

    written: list[ProducerRecord] = []

    def interrupted(self: RecordPublisher, records: Iterable[ProducerRecord], *more: object) -> object:
        if (batch := [*records]) and next(calls) == 2:
            raise PublishFailed("interrupted")
        written.extend(batch)
        return publish(self, batch)

    data_keys = DataKeys(rotated, secrets_of(rotated))
    with monkeypatch.context() as patched:
        patched.setattr(RecordPublisher, "publish", interrupted)
        with pytest.raises(PublishFailed, match="interrupted"):
            data_keys.rewrap()
    some = data_keys.count().living
    assert (some["2026-11"], some["2026-05"] > 0) == (len(written), True)
    assert len(written) >= 2
    assert data_keys.rewrap().wrapped == some["2026-05"]
    assert data_keys.count().living.keys() == {"2026-11"}
    assert data_keys.rewrap().wrapped == 0
    data_keys.close()
    after = replace(deployment, settings=rotated).readable(*KEPT)
    assert {record.position: record for record in after} == {record.position: record for record in before}


def test_the_file_of_secrets_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "encryption"
    made = cli.run("keys", "new", "--file", path, "--kek", "2026-11", env=dict(os.environ))
    assert made.returncode == 0, made.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    first = secrets_file.read(path)
    assert cli.run("keys", "new", "--file", path, env=dict(os.environ)).returncode == 2
    assert secrets_file.read(path) == first
    for arguments in (("--kek", "2026-11"), ("--kek", "index"), ("--activate", "2027-01")):
        refused = cli.run("keys", "rotate", "--file", path, "--yes", *arguments, env=dict(os.environ))
        assert refused.returncode == 2, arguments
    assert secrets_file.read(path) == first
    printed = cli.run("keys", "new", env=dict(os.environ))
    assert printed.stdout.startswith("index:")
    assert f"{datetime.now(UTC):%Y-}" in printed.stdout
    assert secrets_file.add_key(path, "2027-01").current == "2026-11"
    assert secrets_file.activate(path, "2027-01").text == path.read_text()
    assert [*secrets_file.remove(path, {"2026-11"}).keks] == ["2027-01"]
    assert [item.name for item in tmp_path.iterdir()] == ["encryption"]
