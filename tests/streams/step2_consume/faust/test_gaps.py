"""Records that never reach the agent are read and put in their places, on real brokers."""

import uuid
from dataclasses import replace

import pytest
import structlog

from fhirline.config.errors import KafkaRequestFailed
from fhirline.streams.kafka import log_scanner
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.kafka.records import from_confluent
from fhirline.streams.step2_consume.faust import offset_gaps
from fhirline.streams.step2_consume.faust.offset_gaps import GapTooLarge
from fhirline.streams.step2_consume.faust.offsets import Positions
from tests.streams.step2_consume.faust.logs import TOPIC, Log, commit, complete, delete_before, transaction, write
from tests.support.kafka.brokers import RunningBroker


def test_missing_records_are_read_and_put_in_their_places(log: Log) -> None:
    """Before a batch (the group had committed less), within it, and in two partitions at once."""
    of, others = log.records, log.others
    [whole] = complete(Positions(log.settings), [of[5], others[2], of[6], of[9], others[3]])
    assert whole == [*of[3:6], *others[0:3], *of[6:10], others[3]]


def test_a_batch_without_gaps_is_unchanged(log: Log) -> None:
    of = log.records
    batches = [of[3:5], of[5:9], [of[9]]]
    made = complete(Positions(log.settings), *batches)
    assert all(whole is batch for whole, batch in zip(made, batches, strict=True))


def test_a_gap_between_two_batches_is_filled(log: Log) -> None:
    of = log.records
    assert complete(Positions(log.settings), of[3:5], [of[7]])[1] == of[5:8]


def test_a_group_without_commits_begins_at_the_beginning(log: Log) -> None:
    settings = log.settings.model_copy(update={"group": f"new-{uuid.uuid4()}"})
    [whole] = complete(Positions(settings), [log.records[9]])
    with Scanner(settings) as scanner:
        everything = [from_confluent(item) for item in scanner.read({log.partition: None})]
    assert whole == everything


def test_a_gap_that_is_too_large_is_an_error(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_gaps, "MAX_GAP_RECORDS", 4)
    positions = Positions(log.settings)
    with pytest.raises(GapTooLarge, match=f"{TOPIC}/2"):
        complete(positions, [log.records[9]])
    assert positions.committable(log.partition) is None


def test_offsets_without_a_record_are_no_gap(apache_kafka: RunningBroker) -> None:
    """The end of a transaction takes an offset, and deleted records leave theirs behind."""
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    with transaction(settings, "raw.azodha", 1, 1) as [first]:
        pass
    with transaction(settings, "raw.azodha", 1, 1) as [second]:
        pass
    assert second.offset == first.offset + 2
    commit(settings, first)
    assert complete(Positions(settings), [first], [second]) == [[first], [second]]

    delete_before(second, settings)
    settings = settings.model_copy(update={"group": f"new-{uuid.uuid4()}"})
    assert complete(Positions(settings), [second]) == [[second]]


def test_a_missing_record_is_read_as_the_agent_would_get_it(log: Log) -> None:
    """With key and headers: event key, tenant and time of receipt must not depend on the way that it came."""
    [whole] = complete(Positions(log.settings), [replace(log.records[4], value=b"as the agent has it")])
    assert whole[0] == log.records[3]
    assert whole[0].headers == [("tenant", b"acme")]
    assert whole[1].value == b"as the agent has it"


def test_an_end_before_known_records_is_not_believed(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that has just become the leader reports such an end."""
    monkeypatch.setattr(log_scanner, "SILENCE_SECONDS", 2.0)
    beyond = {log.partition: log.records[9].offset + 5}
    with Scanner(log.settings) as scanner:
        assert len(list(scanner.read({log.partition: log.records[0].offset}, beyond))) == 10
        with pytest.raises(KafkaRequestFailed, match="does not answer"):
            list(scanner.read({log.partition: log.records[0].offset}, beyond, whole=True))


def test_records_deleted_before_they_were_mapped_are_logged(apache_kafka: RunningBroker) -> None:
    settings = apache_kafka.settings(group=f"positions-{uuid.uuid4()}", session_timeout=6)
    of = write(settings, "raw.azodha", 6)
    commit(settings, of[1])
    delete_before(of[4], settings)
    with structlog.testing.capture_logs() as lines:
        assert complete(Positions(settings), [of[4]], [of[5]]) == [[of[4]], [of[5]]]
    [told] = [line for line in lines if line["log_level"] == "error"]
    assert told["event"] == "records were deleted before they were mapped"
    assert (told["first"], told["kept_from"]) == (of[1].offset, of[4].offset)
