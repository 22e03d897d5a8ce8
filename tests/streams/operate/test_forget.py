"""Erasures: what they find, delete, write and report."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count

import orjson
import pytest
from confluent_kafka import Message

from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.streams.operate.erasure.mapped import CANONICAL
from fhirline.streams.operate.erasure.report import INDEFINITELY
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.streams.step3_restore.erasure_list import Block, Compartment, ErasureList, Hashing, OtherKey
from fhirline.streams.step5_publish.publish import PublishFailed, RecordPublisher
from fhirline.topics.declared import BUNDLE, ERASED
from tests.support.erasure import RECEIVED_AT, changed, erase, of
from tests.support.last_records import held
from tests.support.load import Load, load_on
from tests.support.workload import undisturbed


@pytest.mark.long
@pytest.mark.parametrize(("crash_at", "on"), [(1, "apache_kafka"), (2, "embedded")])
def test_another_run_finishes_after_a_crash(
    crash_at: int, on: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash comes after the block, and after the Bundle before any tombstone."""
    load = load_on(request.getfixturevalue(on))
    load.send(load.events(40, seed=3))
    patient = load.patient("mediquo")
    mine = load.made_of(patient)
    assert load.live(mine) == mine
    calls: Iterator[int] = count()

    def crashing(
        self: RecordPublisher, records: Iterable[ProducerRecord], delivered: Callable[[Message], None] | None = None
    ) -> object:
        if next(calls) == crash_at:
            raise PublishFailed("crash")
        return deliver(self, records, delivered)

    deliver = RecordPublisher.publish
    with monkeypatch.context() as patched:
        patched.setattr(RecordPublisher, "publish", crashing)
        with pytest.raises(PublishFailed, match="crash"):
            erase(load.settings, patient)
    assert load.live(mine) == mine
    load.send([changed([raw], patient, late=True) for raw in load.raws if of(raw, [patient])])
    assert load.made_of(patient) > mine
    assert load.live(load.made_of(patient)) == mine, "blocked already"
    report = erase(load.settings, patient)
    assert (report.complete, report.bundles) == (True, 1)
    assert not load.live(load.made_of(patient))
    again = erase(load.settings, patient)
    assert (again.complete, again.bundles, again.tombstones.total()) == (True, 0, 0)
    assert again.blocked_at == report.blocked_at


def test_without_raw_records_references_and_origins_find_everything(load: Load) -> None:
    load.send(load.events(150, seed=4), kept=False)
    for vendor in ("altibbi", "azodha", "mediquo"):
        patient = load.patient(vendor)
        mine = load.made_of(patient)
        report = erase(load.settings, patient)
        assert report.complete
        assert report.found_by.keys() <= {"reference", "origin"}
        assert not load.live(mine), report.found_by


def test_bundle_and_provenance_are_valid_and_do_not_name_the_patient(load: Load) -> None:
    load.send(load.events(60, seed=5))
    patient = load.patient("altibbi")
    clear = [f'"{patient.key}"'.encode(), patient.raw_key.encode()]
    ids = {name.partition(" ")[2] for name in load.made_of(patient)}
    report = erase(load.settings, patient)
    told = [
        (topic, orjson.loads(value))
        for (topic, _, _), (value, sent) in held(load.settings, BUNDLE, "fhir.r4.Provenance", ERASED).items()
        if value and header(sent, "event-type") == "erasure" and header(sent, "tenant") == load.tenant
    ]
    (bundle,) = [item for topic, item in told if topic == BUNDLE]
    (provenance,) = [item for topic, item in told if topic != BUNDLE]
    deletes = [entry["request"]["url"] for entry in bundle["entry"] if entry["request"]["method"] == "DELETE"]
    assert {*deletes} == ids
    assert deletes[-1].startswith("Patient/"), "what refers to it goes first"
    assert bundle["entry"][-1]["resource"] == provenance
    both = build_normalizer(load.settings.model_copy(update={"validation": "both"}))
    assert not both.validate(bundle)
    assert provenance["activity"]["coding"][0]["code"] == "DELETE"
    said = orjson.dumps(provenance)
    assert not any(item in said for item in (*clear, *map(str.encode, ids)))
    blocks = held(load.settings, ERASED)
    assert report.digest.encode() in {key for _, _, key in blocks}
    assert not any(item in key + (value or b"") for item in clear for (_, _, key), (value, _) in blocks.items())


def test_the_report_lists_what_remains_and_until_when(load: Load) -> None:
    raws = load.send(load.events(60, seed=6))
    patient = load.patient("azodha")
    report = erase(load.settings, patient)
    (raw,) = [item for item in report.remaining if item.topic == "raw.azodha"]
    mine = [item.offset for item in raws if of(item, [patient])]
    assert (raw.records, raw.first_offset, raw.last_offset) == (len(mine), min(mine), max(mine))
    assert raw.until == INDEFINITELY
    (bundles,) = [item for item in report.remaining if item.topic == BUNDLE]
    assert 0 < bundles.records <= len(mine)
    assert bundles.until[:2] == "20"


def test_a_survey_is_erased_with_its_patient(load: Load) -> None:
    """Its thin event does not name the patient. Without a block of its own it would be mapped and fetched again."""
    thin = {"event_type": "survey_finished", "content": {"survey_id": f"s-{load.tenant}"}}
    whole = {**thin, "summary": {"patient": {"id": "p-1", "full_name": "X"}}, "evidence_assessment": {}}
    first = raw_record("infermedica", load.tenant, orjson.dumps(thin), RECEIVED_AT, None, 64)
    second = raw_record("infermedica", load.tenant, orjson.dumps(whole), RECEIVED_AT, None, 64)
    load.send([first, replace(second, topic="raw.infermedica.enriched")])
    patient = Compartment.of("infermedica", load.tenant, "p-1")
    report = erase(load.settings, patient)
    assert (report.complete, report.blocks) == (True, 2)
    assert {item.topic for item in report.remaining} >= {"raw.infermedica", "raw.infermedica.enriched"}
    (raw,) = load.send([first])
    made = {name for name in undisturbed(load.settings, [raw]) if name.partition(" ")[0] in CANONICAL}
    assert len(made) == 2, "QuestionnaireResponse and Provenance"
    assert not load.live(made)


@pytest.mark.long
def test_records_of_another_producer_are_found_in_other_partitions(load: Load) -> None:
    """They have no header of ours and another key, so they are in another partition than the patient's."""
    load.send(load.events(60, seed=8))
    patient = load.patient("mediquo")
    body = {**orjson.loads(changed(load.raws, patient).value or b""), "foreign": True}
    elsewhere = [
        ProducerRecord(
            "raw.mediquo",
            f"{n}".encode(),
            orjson.dumps({**body, "n": n}),
            headers=[("tenant", load.tenant.encode())],
            timestamp_ms=1,
        )
        for n in range(12)
    ]
    raws = load.send(elsewhere)
    assert len({raw.partition for raw in raws}) > 1
    report = erase(load.settings, patient)
    stays = sum(item.records for item in report.remaining if item.topic == "raw.mediquo")
    assert stays == 12 + sum(of(raw, [patient]) for raw in load.raws)


def test_without_the_key_of_the_blocks_nothing_is_mapped() -> None:
    own, other = Hashing(b"a" * 32), Hashing(b"b" * 32)
    patient = Compartment.of("altibbi", "acme", "1")
    record = own.digest(patient.partition_key).encode(), Block(own.check, "2024-06-01T12:00:00Z").encode()
    for hashing, why in ((None, r"normalizer\.erased has erased patients \(1\)"), (other, "1 of 1 patient was")):
        with pytest.raises(OtherKey, match=f"FHIRLINE_ERASURE_KEY: {why}"):
            ErasureList(hashing).apply([record])
    erased = ErasureList(own)
    erased.apply([record])
    assert erased.block(patient)
    assert not erased.block(Compartment.of("altibbi", "other", "1"))
    erased.apply([(record[0], None)])
    assert not erased.block(patient)
    ErasureList(None).apply([record, (record[0], None)])
