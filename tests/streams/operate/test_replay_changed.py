"""Replay with a changed mapping reports the changes and publishes only them."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline import common_resources
from fhirline.streams.kafka.headers import headers
from fhirline.streams.operate.replay.difference import differs_by_version_only
from fhirline.topics.declared import BUNDLE, canonical_topic
from tests.support.cases import cases
from tests.support.kafka.producing import patient_producer
from tests.support.replaying import DIFFERS, SAME, WRONG, replay, unchanged
from tests.support.running_worker import running, wait_until_as
from tests.support.waiting import LIMIT
from tests.support.workload import Store, events, produce, undisturbed


@pytest.mark.long
@pytest.mark.parametrize(
    "part",
    [
        pytest.param((), id="from nothing"),
        pytest.param(("--tenant", "acme"), id="over what state knows", marks=pytest.mark.long),
    ],
)
def test_a_changed_mapping(own: Settings, tmp_path: Path, part: tuple[str, ...]) -> None:
    """Its changes are reported. Published beside a running worker, the topics are as if it had always been there.

    Before it, the worker folds over the old mapping's state; after it, it must fold over the new one's, although
    it did not write them: a patient's later events say nothing of their gender.
    """
    new = {"FHIRLINE_TERMINOLOGY_DIR": str(own.terminology_dir)}
    raws = produce(own, events(200, seed=21))
    store = Store(own)
    with running(own) as worker:
        wait_until_as(undisturbed(own.model_copy(update={"terminology_dir": None}), raws), store, worker)
    found = replay(own, tmp_path, *part, **new)
    assert found.code == DIFFERS
    assert {(line["kind"], *line["paths"]) for line in found.lines} == {("changed", "gender")}, found.said
    assert {line["key"].partition("/")[0] for line in found.lines} == {"Patient"}
    with running(own, **new) as worker:
        raws += produce(own, events(30, seed=22))
        arrived = undisturbed(own, raws).keys()
        while arrived - store.values.keys():
            assert worker.running, worker.report("has ended")
            store.read()
        published = replay(own, tmp_path, "--publish", *part, **new)
        assert re.search(r"\b[1-9][0-9,]* records? and 0 tombstones published", published.said), published.said
        raws += produce(own, events(30, seed=23))
        in_order = sorted(raws, key=lambda raw: (raw.topic, raw.partition, raw.offset))
        wait_until_as(undisturbed(own, in_order), store, worker)
    store.close()
    unchanged(replay(own, tmp_path, *part, **new))


def test_another_mapping_version_is_no_change_of_a_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Device is named as agent and as target; anything else that differs is a change."""

    def provenances() -> list[dict[str, Any]]:
        made = [output.resource for case in cases() for result in case.run() for output in result.outputs]
        return [orjson.loads(orjson.dumps(item)) for item in made if item["resourceType"] == "Provenance"]

    was = provenances()
    monkeypatch.setattr(common_resources, "MAPPING_VERSION", "map-next")
    now = provenances()
    assert all(one != other and differs_by_version_only(one, other) for one, other in zip(was, now, strict=True))
    assert not differs_by_version_only(was[0], {**now[0], "recorded": "2030-01-01T00:00:00Z"})
    assert not differs_by_version_only(was[0], {**now[0], "target": now[0]["target"][:-1]})


@pytest.mark.long
def test_gone_keys_are_deleted_on_request_only(own: Settings, tmp_path: Path) -> None:
    """A key that the mapping no longer makes is reported. A tombstone needs --tombstones and all events of a vendor."""
    (raw, *others) = produce(own, [event for event in events(60, seed=31) if event.topic == "raw.mediquo"])
    written = headers(
        vendor="mediquo", tenant="acme", raw=str(raw.position), event_key="e" * 64, occurred_at="2024-01-01T00:00:00Z"
    )
    producer = patient_producer(own)
    producer.produce(canonical_topic("Observation"), b"{}", b"Observation/old", 0, headers=list(written))
    assert producer.flush(LIMIT) == 0
    first = replay(own, tmp_path, "--publish", "--bundles", "--vendor", "mediquo")
    assert " 0 records of live events written again" in first.said
    found = replay(own, tmp_path, "--vendor", "mediquo")
    assert [(line["kind"], line["key"]) for line in found.lines] == [("gone", "Observation/old")]
    part = replay(own, tmp_path, "--publish", "--tombstones", "--vendor", "mediquo", "--until", "2024-06-02T00:00:00Z")
    assert part.code == WRONG
    assert replay(own, tmp_path, "--publish", "--tombstones", "--vendor", "mediquo").code in (SAME, DIFFERS)
    store = Store(own)
    store.read_to_the_end()
    assert store.values[f"{canonical_topic('Observation')} Observation/old"] == b""
    expected = undisturbed(own, [raw, *others])
    assert {name for name in expected if name.startswith(BUNDLE)} <= store.values.keys()
    store.close()
