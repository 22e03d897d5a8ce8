"""A patient's timeline: what it shows with a reason, in which order, and what it never says of a patient."""

import re

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.instants import Instant
from fhirline.streams.console import patients
from fhirline.streams.console.event_index import EventIndex
from fhirline.streams.console.patients import NoPatient, SoughtPatient
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.console.conftest import NAME, SCRIPT, Site
from tests.streams.console.test_access import audited
from tests.support.console_pages import Answer, Visitor, console
from tests.support.erasure import KEY, erase
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import load_on
from tests.support.waiting import wait_until

UUID = "[0-9a-f]{8}-[0-9a-f-]{27}"


def asked(visitor: Visitor, patient: str, reason: str = "ticket 4711") -> Answer:
    token = visitor.form_token("/patients")
    return visitor.post("/patients", patient=patient, reason=reason, **{"form-token": token})


def allowed(visitor: Visitor, patient: str, reason: str = "ticket 4711") -> str:
    """Ask until the limit of reveals allows it, and return the page."""
    answers: list[Answer] = []

    def answered() -> bool:
        answers.append(asked(visitor, patient, reason))
        return answers[-1].status != 429

    wait_until(answered, "every request was one too many")
    return answers[-1].text


@pytest.fixture(scope="module")
def known(stack: Site) -> str:
    """A patient of three events, whose diseases have a planted name and a script, by the vendor's own key."""
    at = Instant.parse("2024-06-12T15:20:00Z")
    assert at
    tenant = stack.load.tenant
    records = [
        raw_record("mediquo", tenant, consultation(f"known-{tenant}", occurred), at, None, 64)
        for occurred in (1_718_000_000, 1_717_000_000, 1_718_205_600)
    ]
    raws = stack.load.send(records)
    visitor = Visitor(stack.url).log_in()
    wait_until(
        lambda: all(visitor.get(f"/events?q={raw.position}").status == 303 for raw in raws),
        lambda: stack.process.report("does not find the events"),
    )
    return f"mediquo|{tenant}|known-{tenant}"


def consultation(code: str, occurred: int) -> bytes:
    """A finished consultation of a patient."""
    diseases = [{"id": "1", "name": NAME}, {"id": "2", "name": SCRIPT}]
    body = {
        "type": "patient_consultation_finished",
        "occurred_on": occurred,
        "payload": {
            "consultation": {"id": f"{code}-{occurred}", "type": "chat"},
            "patient": {"code": code, "diseases": diseases},
            "professional": {"id": code, "name": "Dr. Synthetic"},
        },
    }
    return orjson.dumps(body)


def test_a_patient_is_found_by_either_name_and_is_in_no_url_title_or_log_line(stack: Site, known: str) -> None:
    visitor = Visitor(stack.url).log_in()
    assert "Zeph" not in visitor.get("/patients").text
    answer = asked(visitor, known)
    assert answer.status == 200
    assert NAME in answer.text
    assert "&lt;script&gt;" in answer.text
    assert SCRIPT not in answer.text
    assert answer.text.count("<script") == 1
    assert "patient_consultation_finished" in answer.text
    assert re.search(r"<title>Patients ", answer.text)
    (reference,) = re.findall(rf"<h2>(Patient/{UUID})</h2>", answer.text)
    assert asked(visitor, reference).text.count(NAME) == answer.text.count(NAME)
    for path in re.findall(r'(?:href|action)="([^"]*)"', answer.text):
        assert "known-" not in path
        assert NAME not in path
    lines = audited(stack.process, "patient timeline shown", 2, reason="ticket 4711")
    assert [(line["by"], line["reason"], line["patient"]) for line in lines] == [
        ("console", "ticket 4711", reference)
    ] * 2
    assert NAME not in stack.process.output
    assert f"known-{stack.load.tenant}" not in stack.process.output


def test_nothing_is_shown_without_a_reason_or_a_form_token(stack: Site, known: str) -> None:
    visitor = Visitor(stack.url).log_in()
    assert asked(visitor, known, " ").status == 400
    assert visitor.post("/patients", patient=known, reason="refused").status == 403
    assert visitor.get(f"/patients?patient={known.replace('|', '%7C')}&reason=refused").text.count(NAME) == 0
    allowed(visitor, known, "after what was refused")
    audited(stack.process, "patient timeline shown", 1, reason="after what was refused")
    for reason in (" ", "", "refused"):
        assert audited(stack.process, "patient timeline shown", 0, reason=reason) == []


@pytest.mark.parametrize(
    "typed", ["", "mediquo|acme|  ", "Smith", "mediquo|acme", "nobody|acme|1", "mediquo|A b|1", SCRIPT, "Encounter/1"]
)
def test_what_names_no_patient_is_refused_and_not_repeated(stack: Site, typed: str) -> None:
    answer = asked(Visitor(stack.url).log_in(), typed)
    assert answer.status == 422
    assert "vendor|tenant|key" in answer.text
    assert "nobody" not in answer.text
    assert "Smith" not in answer.text


def test_a_patient_of_no_event_may_never_have_been_there(stack: Site) -> None:
    visitor = Visitor(stack.url).log_in()
    for patient in (f"mediquo|{stack.load.tenant}|unheard-of", "Patient/00000000-0000-5000-8000-000000000000"):
        assert "There is no event of this patient" in asked(visitor, patient).text


def test_events_come_in_the_order_in_which_they_happened(stack: Site, known: str) -> None:
    page = asked(Visitor(stack.url).log_in(), known).text
    events = page.partition("<h3>Events</h3>")[2].partition("</table>")[0]
    times = re.findall(r'<th scope="row" class="when">([^<]+)</th>', events)
    assert times == ["2024-05-29T16:26:40Z", "2024-06-10T06:13:20Z", "2024-06-12T15:20:00Z"]
    assert "2 Condition" in events
    shown = {kind: kind in page.partition("Resources as they are now")[2] for kind in ("Patient", "Practitioner")}
    assert shown == {"Patient": True, "Practitioner": False}


def test_too_many_timelines_in_a_short_time_are_held_off(stack: Site) -> None:
    with console(stack.load.settings) as (url, process):  # its own: nobody sees a timeline for some seconds
        visitor = Visitor(url).log_in()
        token = visitor.form_token("/patients")
        form = {"patient": "Patient/1", "reason": "x", "form-token": token}
        statuses = [visitor.post("/patients", **form).status for _ in range(100)]
        assert statuses[0] == 200
        assert 429 in statuses
        shown = statuses.count(200)
        assert len(audited(process, "patient timeline shown", shown)) == shown


def test_a_topic_that_is_too_long_is_not_read(stack: Site, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its resources are as the events' Bundles have them; without a Bundle they have no text."""
    index = EventIndex(stack.load.settings)
    with index.following() as read_on:
        read_on()
    sought = SoughtPatient.parse(known, stack.load.settings)
    whole, cut, bare = (patients.known(index, sought) for _ in range(3))
    patients.read(stack.load.settings, index, sought, whole)
    monkeypatch.setattr(patients, "MOST_RECORDS", 0)
    patients.read(stack.load.settings, index, sought, cut)
    monkeypatch.setattr(patients, "MOST_BUNDLES", 0)
    patients.read(stack.load.settings, index, sought, bare)
    index.close()
    assert whole.unread == []
    assert {*cut.unread} == whole.resources.keys() == cut.resources.keys()
    assert {item.text for item in whole.resources["Condition"]} == {NAME, SCRIPT}
    assert cut.resources == whole.resources
    assert {item.text for item in bare.resources["Condition"]} == {""}


@pytest.mark.long
def test_an_erased_patient_is_said_to_be_erased(own_broker: RunningBroker) -> None:
    load = load_on(own_broker)
    load.send(load.events(40, seed=3))
    patient = load.patient("mediquo")
    typed = f"mediquo|{patient.tenant}|{patient.key}"
    with console(load.settings, **KEY) as (url, process):
        visitor = Visitor(url).log_in()
        (reference,) = re.findall(rf"<h2>(Patient/{UUID})</h2>", asked(visitor, typed).text)
        erase(load.settings, patient)

        def gone() -> bool:
            return "was erased: the events" in asked(visitor, typed).text

        wait_until(gone, lambda: process.report("still shows the patient's events"))
        by_reference = allowed(visitor, reference)
        assert "was erased: the events" in by_reference, "the Patient's tombstone says so"
        assert reference not in by_reference
        with console(load.settings) as (other, _):  # it has no erasure key
            assert "was erased: the events" in asked(Visitor(other).log_in(), typed).text


def test_a_key_is_taken_as_it_is_and_as_a_raw_record_has_it() -> None:
    settings = Settings(base="https://fhirline.test")
    plain, escaped = (SoughtPatient.parse(f"azodha|acme|{key}", settings) for key in ("a/b|c", "a%2Fb%7Cc"))
    assert plain.compartment == escaped.compartment
    assert {*plain.references} <= {*escaped.references}
    with pytest.raises(NoPatient):
        SoughtPatient.parse(f"azodha|acme|{'1' * 501}", settings)
