"""An OperationOutcome that gets a null value leaves the console's index with its flags."""

from contextlib import closing

import orjson

from fhirline.config.settings import Settings
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.event_listing import Chosen
from fhirline.streams.console.event_progress import PROVENANCE
from fhirline.streams.console.index_entries import ANY_FLAG
from fhirline.streams.kafka.headers import headers
from fhirline.streams.kafka.records import ProducerRecord
from fhirline.topics.declared import OUTCOME
from tests.support.delivery import write
from tests.support.kafka.brokers import RunningBroker

FLAGGED = orjson.dumps({"issue": [{"details": {"coding": [{"code": "no-code"}]}}]})


def record(topic: str, event: str, value: bytes) -> ProducerRecord:
    sent = headers(event_key=event * 64, vendor="altibbi", tenant="acme", event_type="status_update")
    kind = "OperationOutcome" if topic == OUTCOME else "Provenance"
    return ProducerRecord(topic, f"{kind}/{event}".encode(), value, 0, sent)


def test_an_event_without_an_outcome_has_no_flags(own_broker: RunningBroker) -> None:
    """An event of which nothing else is known is gone: its patient was erased, or nothing is made of it today."""
    settings = own_broker.settings()
    write(settings, [record(OUTCOME, event, FLAGGED) for event in "abc"])
    write(settings, [record(PROVENANCE, event, b"{}") for event in "ab"])
    nulls = [ProducerRecord(OUTCOME, f"OperationOutcome/{event}".encode(), None, 0) for event in "acd"]
    with closing(EventIndex(settings)) as index, index.following() as read_on:
        read_on()
        assert events(index, ANY_FLAG) == {"a", "b", "c"}
        write(settings, nulls)
        read_on()
        assert (events(index, ANY_FLAG), events(index)) == ({"b"}, {"a", "b"})
        assert [found.outcome for found in index.by_key("a" * 64)] == [None]
    assert from_the_beginning(settings) == ({"b"}, {"a", "b"})


def events(index: EventIndex, flag: str = "") -> set[str]:
    return {found.name[0] for found in index.listing.newest(Chosen(flag=flag), 10)}


def from_the_beginning(settings: Settings) -> tuple[set[str], set[str]]:
    with closing(EventIndex(settings)) as index, index.following() as read_on:
        read_on()
        return events(index, ANY_FLAG), events(index)
