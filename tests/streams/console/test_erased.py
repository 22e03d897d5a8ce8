"""An erased patient's events leave the console's index, and nobody else's do."""

import re

from fhirline.streams.kafka.headers import EVENT_KEY, header
from tests.support.console_pages import Visitor, console
from tests.support.erasure import erase, of
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import load_on
from tests.support.waiting import wait_until


def test_events_of_an_erased_patient_leave_the_index(own_broker: RunningBroker) -> None:
    """The erasure's own Provenance is a new row: it says that a patient was erased, not who."""
    load = load_on(own_broker)
    load.send(load.events(40, seed=3))
    patient = load.patient("mediquo")
    theirs = {(header(raw.headers, EVENT_KEY) or "")[:12] for raw in load.raws if of(raw, [patient])}
    with console(load.settings) as (url, process):
        visitor = Visitor(url).log_in()
        before = listed(visitor)
        assert theirs
        assert theirs <= before
        erase(load.settings, patient)
        wait_until(lambda: not theirs & listed(visitor), lambda: process.report("still lists the patient's events"))
        assert before - listed(visitor) == theirs
        with console(load.settings) as (later, _):  # it reads the topics from their beginning
            assert not theirs & listed(Visitor(later).log_in())


def listed(visitor: Visitor) -> set[str]:
    """The first digits of the events' keys, as the page lists them."""
    return set(re.findall(r'<a href="/events/[^"]+"><code>([0-9a-f]{12})</code>', visitor.get("/events").text))
