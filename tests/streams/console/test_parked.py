"""Patients who wait for a real FHIR server: who, since when, why, what to do, and the order to send what waits."""

import re
from html import unescape

from fhirline.config.settings import Settings
from fhirline.streams.console.parked import ServerAnswer, advices
from fhirline.streams.deliver.answers import Issue, Kind, Verdict
from fhirline.streams.deliver.dead_letter import Refused as Subject
from fhirline.streams.deliver.dead_letter import refusal_letter
from fhirline.streams.deliver.entries import entries_of, patients_of
from fhirline.streams.deliver.sending import CODES
from fhirline.streams.deliver.sending import Refusal as Refused
from fhirline.streams.deliver.state import Waiting
from fhirline.streams.kafka.records import ProducerRecord, RecordPosition
from fhirline.topics.declared import BUNDLE, DELIVERED
from tests.streams.console.conftest import SCRIPT
from tests.streams.console.figures import DELIVERY, figures, sums
from tests.streams.console.test_access import audited
from tests.streams.deliver.test_deliver import poison
from tests.support.console_pages import Answer, Visitor, console
from tests.support.delivery import (
    delivering,
    golden_records,
    letters,
    records_of,
    wait_until_delivered,
    waiting,
    write,
)
from tests.support.ehr.fixture import EhrServers
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import load_on
from tests.support.paths import ROOT
from tests.support.waiting import wait_until

PAGE, RESUME = "/dead-letters/waiting", "/dead-letters/waiting/resume"
SOMEBODY = "Patient/00000000-0000-5000-8000-000000000001"
NEIGHBOUR = "Patient/00000000-0000-5000-8000-000000000002"


def rows(page: str) -> dict[str, tuple[str, str]]:
    """Each patient's row, and the advice under it, as text."""
    table = page.partition('aria-label="Patients who wait"')[2].partition("</table>")[0]
    found: dict[str, tuple[str, str]] = {}
    for row in table.split("<tr")[2:]:
        text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", row.partition(">")[2]))).strip()
        patient = re.search(r"<code>(\w+/[^<]+)</code></a>", row)
        if patient:
            found[patient[1]] = (text, "")
        else:
            last = next(reversed(found))
            found[last] = (found[last][0], text)
    return found


def ordered(settings: Settings) -> set[str]:
    """For whom it was ordered that what waits is sent."""
    found = records_of(settings, DELIVERED)
    return {key.removeprefix("resume/") for (_, key), value in found.items() if key.startswith("resume/") and value}


def order(visitor: Visitor, **chosen: str) -> Answer:
    query = "&".join(f"{name}={value}" for name, value in chosen.items())
    return visitor.post(RESUME, **chosen, **{"form-token": visitor.form_token(f"{RESUME}?{query}")})


def parked() -> list[ProducerRecord]:
    """An erasure that somebody else's resource forbids, a Bundle behind it, and what a first fill could not send."""
    bundle = Waiting(7, frozenset([SOMEBODY]), (SOMEBODY,), "conflict", True, erases=True)
    behind = Waiting(9, frozenset([SOMEBODY]), (SOMEBODY,), "conflict", False)
    fill = Waiting(1, frozenset([NEIGHBOUR]), (NEIGHBOUR,), "too-large", True, owner=NEIGHBOUR)
    first = Verdict(Kind.CONFLICT, 412)
    then = Verdict(
        Kind.CONFLICT, 409, (Issue("error", "conflict", (SCRIPT,)),), ("HAPI-0550",), ("Flag/7 Flag.subject",)
    )
    subject = Subject(RecordPosition(BUNDLE, 3, 7), b"Bundle/x", [], 3)
    sent = [refusal_letter(subject, Refused("conflict", verdict, (SOMEBODY,))) for verdict in (first, then)]
    large = refusal_letter(Subject.owner(NEIGHBOUR, 5), Refused("too-large", Verdict(Kind.REFUSED, 413), (NEIGHBOUR,)))
    return [bundle.record(3), behind.record(3), fill.record(5), *sent, large]


def test_what_to_do_is_in_the_words_of_the_runbook() -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8").partition("## Patients are parked")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| `.*? \| (.*) \| (.*) \|$", text, re.M)
    plain = {tuple(re.sub(r"\[([^]]+)\]\([^)]*\)|`", r"\1", cell) for cell in line) for line in lines}
    assert {(advice.likely, advice.do) for advice in advices().values()} == plain
    assert {ServerAnswer(code, 422, (), (), (), (), False).advice is None for code in CODES} == {False}


def test_a_405_is_that_of_a_deletion_only_where_an_erasure_waits() -> None:
    told = [ServerAnswer("refused", 405, (), (), (), (), erases).advice for erases in (False, True)]
    assert told == [advices()["refused"], advices()["refused-deletion"]]


def test_a_refused_patient_is_explained_and_resumed(own_broker: RunningBroker, ehr_server: EhrServers) -> None:
    settings, server = own_broker.settings(), ehr_server()
    server.clear()
    records = [*golden_records(settings)]
    bundles = [record for record in records if record.topic == BUNDLE]
    poisoned = {record.key: poison(record) for record in bundles[20::60]}
    patients = {key for record in poisoned.values() for key in patients_of(entries_of(record.value))}
    assert len(patients) > 1
    write(settings, (poisoned.get(record.key, record) for record in records))
    with delivering(settings, server.base) as process:
        wait_until_delivered(settings, process)
        held = waiting(settings)
        letter = next(iter(letters(settings).values()))
        with console(settings, "--allow", "redrive", FHIRLINE_FHIR_SERVER=server.base) as (url, shown):
            visitor = Visitor(url).log_in()
            page = visitor.get(PAGE).text
            found = rows(page)
            assert found.keys() == patients
            assert f"with {len(held)} Bundles" in page
            advice = ServerAnswer("refused", letter["status"], (), (), letter["serverCodes"], (), False).advice
            assert advice
            for patient, (row, under) in found.items():
                count = sum(patient in item["patients"] for item in held)
                assert re.match(rf"{patient} 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC {count} refused, HTTP \d{{3}}", row), (
                    row
                )
                assert under == f"Most likely {advice.likely}. Do: {advice.do}."
            sentence = f'{len(patients)} patients must wait until the FHIR server takes a Bundle. <a href="{PAGE}">'
            wait_until(lambda: sentence in visitor.get("/").text, lambda: visitor.get("/").text)
            told = sums(figures(visitor.get("/").text, *DELIVERY))
            assert (told["To deliver"], told["Refused"]) == (0, sum(item["refused"] for item in held))
            assert told["Parked"] == len(held) - told["Refused"]
            assert told["Delivered"] > told["Refused"]

            one = min(patients)
            said = visitor.get(f"{RESUME}?patient={one}").text
            assert "Resume 1 patient</button>" in said
            assert visitor.post(RESUME, patient=one).status == 403, "no form token"
            assert ordered(settings) == set(), "the page that says what will be sent orders nothing"
            assert waiting(settings) == held
            answer = order(visitor, patient=one)
            assert (answer.status, answer.headers["Location"]) == (303, f"{PAGE}?ordered=1")
            (line,) = audited(shown, "waiting Bundles resumed", 1)
            assert (line["by"], line["patients"], line["patient"]) == ("console", "1", one)
            wait_until(lambda: rows(visitor.get(PAGE).text).keys() == patients - {one}, lambda: process.report("does"))
            assert f"What waits for <strong>{len(patients) - 1} patient" in visitor.get(f"{RESUME}?code=refused").text
            assert order(visitor, code="refused").headers["Location"] == f"{PAGE}?ordered={len(patients) - 1}"
            wait_until(lambda: "Nobody waits." in visitor.get(PAGE).text, lambda: process.report("does not resume"))
            assert waiting(settings) == []
            assert order_refused(visitor).status == 409, "nothing waits any more"


def order_refused(visitor: Visitor) -> Answer:
    return visitor.post(RESUME, **{"form-token": visitor.form_token("/playground")})


def test_an_erasure_that_waits_is_told_and_an_order_is_shown_until_it_is_carried_out(
    own_broker: RunningBroker,
) -> None:
    """No delivery runs."""
    settings = load_on(own_broker).settings
    write(settings, parked())
    with console(settings, "--allow", "redrive") as (url, process):
        visitor = Visitor(url).log_in()
        page = visitor.get(PAGE).text
        found = rows(page)
        assert found.keys() == {SOMEBODY, NEIGHBOUR}
        row, under = found[SOMEBODY]
        assert row.startswith(f"{SOMEBODY} erasure 20")
        assert " UTC 2 conflict, HTTP 409: conflict HAPI-0550 at " in row
        assert "referred to by Flag/7 Flag.subject" in row
        assert SCRIPT not in page
        assert (
            under == f"Most likely {advices()['conflict-referring'].likely}. Do: {advices()['conflict-referring'].do}."
        )
        assert " UTC 1 too-large, HTTP 413" in found[NEIGHBOUR][0]
        assert rows(visitor.get(f"{PAGE}?code=too-large").text).keys() == {NEIGHBOUR}
        assert "Nothing waits for this." in visitor.get(f"{PAGE}?code=refused").text
        assert visitor.get(f"{PAGE}?code=x").status == 400
        assert "2 patients wait</a>" in visitor.get("/dead-letters").text
        assert "of 1 patient it is the erasure that waits" in visitor.get(f"{RESUME}?patient={SOMEBODY}").text
        assert order(visitor, code="conflict").headers["Location"] == f"{PAGE}?ordered=1"
        assert ordered(settings) == {SOMEBODY}

        def told() -> bool:
            return rows(visitor.get(PAGE).text)[SOMEBODY][0].endswith(" ordered")

        wait_until(told, lambda: process.report("does not see the order"))
    with console(settings) as (url, _):
        visitor = Visitor(url).log_in()
        assert "This console is read-only." in visitor.get(PAGE).text
        assert visitor.get(RESUME).status == 403
        assert order_refused(visitor).status == 403
