"""An event that arrives late: its page names the resources that it made, and those that a newer event had written."""

import re

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.support.console_pages import Visitor, console
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on

AT = Instant("2024-06-12T15:20:00Z", (1_718_205_600, ""))
REFERENCE = re.compile(r"<code>([A-Z][A-Za-z]+)/[^<]+</code>")
LATE = "Resources that it did not change"


def consultation(occurred_on: int) -> bytes:
    body = {
        "type": "patient_consultation_finished",
        "occurred_on": occurred_on,
        "payload": {
            "consultation": {"id": "synthetic-1", "type": "chat"},
            "patient": {"code": "synthetic-1", "first_name": "Synthetic"},
            "professional": {"id": "synthetic-1", "name": "Synthetic"},
        },
    }
    return orjson.dumps(body)


@pytest.fixture
def load(own_broker: RunningBroker) -> Load:
    made = load_on(own_broker)
    bodies = [consultation(occurred_on) for occurred_on in (1_718_205_600, 1_718_205_000)]
    made.send([raw_record("mediquo", made.tenant, body, AT, None, 64) for body in bodies])
    return made


def test_what_a_newer_event_had_written_is_not_called_made(load: Load) -> None:
    with console(load.settings) as (url, _):
        visitor = Visitor(url).log_in()
        in_time, late = (
            visitor.get(visitor.get(f"/events?q={raw.position}").headers["Location"]).text for raw in load.raws
        )
        made, _, rest = late.partition("Resources that it made")[2].partition(LATE)
        newer, _, places = rest.partition("Where they are")
        token = visitor.form_token("/patients")
        patient = re.search(r"Patient/[0-9a-f-]{36}", late)
        assert patient
        timeline = visitor.post("/patients", patient=patient[0], reason="a test", **{"form-token": token}).text
    assert LATE not in in_time
    assert "Encounter" in REFERENCE.findall(in_time)
    assert "Encounter" in REFERENCE.findall(newer)
    assert "Patient" in REFERENCE.findall(made)
    assert {*REFERENCE.findall(made)}.isdisjoint(REFERENCE.findall(newer))
    assert "encounter" not in places
    rows = re.findall(r'<td>(<span class="when">\d+ [A-Z].*?)</td>', timeline)
    assert [("Encounter" in row) for row in rows] == [False, True]
