"""The cache of a partition's state: records in any order and number end in the same entries."""

import itertools

import pytest

from fhirline.mappers.pipeline.normalize import InMemoryState, StateUpdate
from fhirline.mappers.results import Entry, Version
from fhirline.streams.step3_restore.state import PartitionState, StateEntryTooLarge, state_record

UPDATES = [
    StateUpdate("Patient/1", "field name.text", Entry(Version((seconds, fraction), key, "t"), {"said": position}))
    for position, (seconds, fraction, key) in enumerate([(5, "", "b"), (5, "", "a"), (9, "25", "a"), (9, "3", "a")])
]


def test_the_greatest_version_wins_in_any_order() -> None:
    """A stale writer's record may follow a newer one in the topic (state.md §1)."""
    for order in itertools.permutations([*UPDATES, UPDATES[0]]):
        restored, memory = PartitionState(), InMemoryState()
        for item in order:
            record = state_record("state", 0, "acme|1", item)
            assert record.value is not None
            restored.read(record.key, record.value)
            memory.apply([item])
        assert restored("Patient/1") == memory("Patient/1") == {"field name.text": UPDATES[3].entry}


def test_a_tombstone_removes_an_entry() -> None:
    state = PartitionState()
    record = state_record("state", 0, "acme|1", UPDATES[0])
    assert record.value is not None
    state.read(record.key, record.value)
    state.read(record.key, None)
    assert (state("Patient/1"), len(state)) == ({}, 0)


def test_the_position_moves_only_over_contiguous_deliveries() -> None:
    """Another writer's records between our own must be read, not skipped."""
    state = PartitionState()
    state.position = 7
    for offset in (7, 9, 10):
        state.delivered(offset)
    assert state.position == 8


def test_an_event_with_an_entry_that_is_too_large_changes_no_state() -> None:
    """Not even its small entries: the whole event becomes a dead letter."""
    state, large = (
        PartitionState(),
        StateUpdate("Patient/1", "field name", Entry(UPDATES[0].entry.version, "x" * 2_000)),
    )
    with pytest.raises(StateEntryTooLarge):
        state.record_updates("state", 0, "acme|1", [UPDATES[0], large], largest=3_000)
    assert (len(state), state.size) == (0, 0)
    assert len(state.record_updates("state", 0, "acme|1", [UPDATES[0], large], largest=4_000)) == len(state) == 2


def test_a_practitioners_entries_belong_to_no_patient() -> None:
    """An erasure of one patient must not remove what the events of others have sent of the same professional."""
    entry = Entry(Version((20, ""), "k", "t"), "Dr A")
    record = state_record("state", 0, "acme|1", StateUpdate("Practitioner/1", "field name", entry))
    assert b"acme" not in record.key
    state = PartitionState()
    state.read(record.key, record.value)
    state.read(b'["acme|1","Practitioner/1","field name"]', None)  # of a release that kept it under the patient's key
    assert state("Practitioner/1") == {"field name": entry}
    state.read(record.key, None)
    assert state("Practitioner/1") == {}
