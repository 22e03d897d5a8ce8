"""Encryption of what exists: kills after any write, dead letters with their status, and state beside a worker."""

from collections.abc import Iterable
from typing import Any

import pytest

from fhirline.config.settings import Settings
from fhirline.streams.kafka.encryption.opener import Opener, is_sealed
from fhirline.streams.kafka.headers import FIRST_RAW, header
from fhirline.streams.kafka.records import ConsumerRecord, ProducerRecord, RecordPosition, TopicPartition
from fhirline.streams.operate.dead_letters.board import Board
from fhirline.streams.operate.dead_letters.cases import Status
from fhirline.streams.operate.keys.existing import run as phases
from fhirline.streams.operate.keys.existing.copying import Copier
from fhirline.streams.step3_restore.state import StateCache
from tests.streams.operate.keys.plain import (
    FEW,
    deploy,
    opened,
    stored,
)
from tests.streams.operate.keys.test_encrypt_existing import (
    LETTER_TOPICS,
    RAW_TOPICS,
    STATE_TOPICS,
    behind,
    copies,
    kept,
    migrate,
    shown,
)
from tests.support.workload import produce


class Killed(BaseException):
    """Ends a run in the middle, as a kill does: nothing after it runs."""


pytestmark = pytest.mark.long  # dozens of runs


def test_a_run_that_is_killed_after_any_write_is_finished_by_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = deploy(settings, 25, seed=7)
    failing = [letter for letter in plain.letters if header(letter.headers, "error-code") != "not-json"]
    plain.redriven(failing[0], Status.FAILED)
    monkeypatch.setattr(phases, "BATCH", 15)
    own, left = Copier.write, 0

    def write(self: Copier, made: Iterable[ProducerRecord]) -> None:
        nonlocal left
        made = [*made]
        own(self, made[: max(0, left)] if left < len(made) else made)
        left -= max(1, len(made))
        if left <= 0:
            raise Killed

    monkeypatch.setattr(Copier, "write", write)
    kills = 0
    while True:
        left = 25
        try:
            done = migrate(settings)
        except Killed:
            kills += 1
            assert kills < 60, "the runs make no progress"
        else:
            break
    assert kills > 5
    found = copies(opened(settings, *RAW_TOPICS, *LETTER_TOPICS))
    for record in (*plain.written, *plain.letters):
        assert shown(found[str(record.position)]) == shown(record)
    assert all(is_sealed(record) for record in behind(settings, done, *RAW_TOPICS, *LETTER_TOPICS))


def test_dead_letters_keep_their_status_and_name_copies(settings: Settings) -> None:
    plain = deploy(settings, 20, seed=8)
    failing = [letter for letter in plain.letters if letter.value is not None]
    for letter, status in zip(failing[:3], (Status.FAILED, Status.DONE, Status.REDRIVEN), strict=True):
        plain.redriven(letter, status)
    before = {case.last.event_key: case for case in board(settings)}
    done = migrate(settings)
    after = [case for case in board(settings) if (at := RecordPosition.parse(case.id)) and kept(done, at)]
    assert {case.last.event_key: case.status for case in after} == {
        event: case.status for event, case in before.items()
    }
    assert {Status.FAILED, Status.DONE, Status.OPEN} <= {case.status for case in after}
    raws = {raw.position: raw for raw in opened(settings, *RAW_TOPICS)}
    for case in after:
        for letter in case.letters:
            assert letter.raw is not None
            assert kept(done, letter.raw)
            assert header(raws[letter.raw].headers, FIRST_RAW) in (None, case.id)
        if case.mark is not None:
            assert kept(done, case.mark.letter)
            assert case.mark.redriven is None or kept(done, case.mark.redriven)


def board(settings: Settings) -> list[Any]:
    with Board(settings, FEW) as found:
        return found.read()


def restored(settings: Settings) -> dict[TopicPartition, Any]:
    """Return all state entries as a worker restores them."""
    opener = Opener(settings)
    found = {}
    for topic in STATE_TOPICS:
        cache = StateCache(settings, topic, opener=opener)
        cache.restore(range(settings.partitions))
        for number in range(settings.partitions):
            found[TopicPartition(topic, number)] = cache.partition(number)._subjects
    opener.close()
    return found


def test_state_is_the_same_beside_a_worker_that_writes_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = deploy(settings, 30, seed=9)
    expected = restored(settings)
    assert sum(map(len, expected.values())) > 20
    with_greater = stored_versions(settings)
    own = Copier.write
    wrote: list[ConsumerRecord] = []

    def write(self: Copier, made: Iterable[ProducerRecord]) -> None:
        made = [*made]
        ours = [record for record in made if record.topic in STATE_TOPICS and record.value and record.data_key]
        if ours and not wrote:  # a worker writes a greater version of one entry just before us
            first = ours[0]
            wrote.extend(produce(settings, [with_greater(first)]))
        own(self, made)

    monkeypatch.setattr(Copier, "write", write)
    done = migrate(settings)
    assert done.entries
    assert wrote
    found = restored(settings)
    changed = [place for place in expected if expected[place] != found[place]]
    assert changed == [TopicPartition(wrote[0].topic, wrote[0].partition)]
    last = {(record.topic_partition, record.key): record for record in stored(settings, *STATE_TOPICS)}
    for record in last.values():
        if (record.key or b"").startswith(b'["') and not (record.key or b"").startswith(b'[""'):
            assert record.value is None, "a plain entry is left"
    only_newest(settings, found, last)
    assert plain.written


def stored_versions(settings: Settings) -> Any:
    """Return a function that makes a record of the same entry, of a greater version."""
    import orjson

    def greater(record: ProducerRecord) -> ProducerRecord:
        held = orjson.loads(record.value or b"")
        held["s"][0] += 1
        return ProducerRecord(record.topic, record.key, orjson.dumps(held), record.partition, data_key=record.data_key)

    return greater


def only_newest(settings: Settings, found: dict[TopicPartition, Any], last: dict[Any, ConsumerRecord]) -> None:
    """Restore from what compaction leaves: the last record of each key. It must be the same state."""
    opener = Opener(settings)
    for topic in STATE_TOPICS:
        cache = StateCache(settings, topic, opener=opener)
        for number in range(settings.partitions):
            state = cache.new()
            for record in sorted(last.values(), key=lambda record: record.position):
                if record.topic_partition != (topic, number) or record.value is None:
                    continue
                plain = opener.open_now(record)
                state.read(plain.key or b"", plain.value)
            assert state._subjects == found[TopicPartition(topic, number)]
    opener.close()
