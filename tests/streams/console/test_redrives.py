"""A redrive from the console: followed to its end, one at a time, stopped, and never begun twice by one form."""

from collections import Counter
from html import unescape

import pytest

from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.operate.dead_letters.cases import Status
from tests.streams.console.redriving import ENDED, PAGE, PROGRESS, facts, redriving, refused_events
from tests.streams.console.test_access import audited
from tests.streams.operate.test_dead_letters_command import refused, wait_until_mapped
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import Load, load_on
from tests.support.running_worker import running
from tests.support.waiting import wait_until


def statuses(found: list[Status]) -> Counter[str]:
    return Counter(status.value for status in found)


def raw_records(load: Load) -> int:
    with Scanner(load.settings) as scanner:
        return sum(1 for _ in scanner.read(dict.fromkeys(scanner.topic_partitions(["raw.altibbi"]))))


def test_a_redrive_is_followed_until_the_worker_has_mapped_it(own_broker: RunningBroker) -> None:
    """Events that were too large for the limits then, and some that no worker can map."""
    load = load_on(own_broker)
    small = Load(load.settings.model_copy(update={"max_event_resources": 1}), load.tenant)
    complex = small.send(event for event in load.events(100, seed=31) if event.topic == "raw.altibbi")
    raws = [*complex, *small.send(refused_events(load.tenant))]
    with running(load.settings) as worker, redriving(load) as site:
        wait_until_mapped(load.settings, raws)  # it maps them at its start too
        before = site.cases()
        failing = refused(load.settings, raws) & {case.id for case in before}
        assert len(failing) >= 2
        assert len(before) - len(failing) > 5
        sent = raw_records(load)
        visitor = site.visitor()
        assert "This console has begun none." in visitor.get(PROGRESS).text
        form = site.form(visitor)
        narrower = visitor.get(f"{PAGE}?vendor=altibbi&type=status_update&status=not-done").text
        assert "<strong>altibbi · status_update · not done</strong>" in narrower, "what is narrowed is said"
        assert raw_records(load) == sent, "the page that says what will be sent sends nothing"
        answer = visitor.post(PAGE, **form)
        assert (answer.status, answer.headers["Location"]) == (303, PROGRESS)
        stream = visitor.get(f"{PROGRESS}/updates")
        assert stream.headers["Content-Type"] == "text/event-stream"
        last = stream.text.strip().split("\n\n")[-1].replace("\ndata: ", "\n")
        page = visitor.get(PROGRESS).text
        for text in (last, page):
            found = facts(text)
            assert found.pop("Sent") == f"{len(before)} of {len(before)}", worker.report(text)
            counts = {"Done": len(before) - len(failing), "Failed again": len(failing)}
            assert found == {name: str(n) for name, n in (counts | {"Not mapped yet": 0, "Not sent": 0}).items()}
        assert 'http-equiv="refresh"' not in page, "it has ended"
        assert raw_records(load) == sent + len(before)
        now = site.cases()
        assert {case.id for case in now if case.status is Status.FAILED} == failing
        assert {case.id for case in now if case.status is Status.DONE} == {case.id for case in before} - failing
        assert {case.mark.status for case in now if case.mark} == {Status.DONE, Status.FAILED}, "the result is kept"
        (line,) = audited(site.process, "dead letters redriven", 1)
        assert (line["by"], line["events"], line["key"]) == ("console", str(len(before)), form["key"])

        assert visitor.post(PAGE, **form).status == 303  # the form, once more
        assert facts(visitor.get(PROGRESS).text)["Sent"] == f"{len(before)} of {len(before)}"
        assert len(audited(site.process, "dead letters redriven", 1)) == 1
        visitor.headers["Last-Event-ID"] = unescape(stream.text.rpartition("id: ")[2].partition("\n")[0])
        assert visitor.get(f"{PROGRESS}/updates").status == 204, "the browser asks no more"
        assert raw_records(load) == sent + len(before)


@pytest.mark.long
def test_a_redrive_is_stopped_and_what_is_left_is_sent_by_another(own_broker: RunningBroker) -> None:
    count = 2_000  # twenty seconds
    load = load_on(own_broker)
    load.send(refused_events(load.tenant, count))
    with redriving(load) as site:
        visitor = site.visitor()
        form = site.form(visitor, code="resource-refused")
        other = site.form(visitor, code="resource-refused")
        assert visitor.post(PAGE, **form).status == 303
        page = site.until(visitor, r"<strong>Sending\.</strong>\s*[1-9]")
        assert 'http-equiv="refresh"' in page
        assert '<progress max="2000"' in page
        assert "A redrive is running." in visitor.get("/dead-letters").text
        assert "One redrive at a time" in visitor.get(PAGE).text
        assert visitor.post(PAGE, **other).status == 409
        assert visitor.post(f"{PROGRESS}/stop").status == 403, "no form token"
        assert visitor.post(f"{PROGRESS}/stop", **{"form-token": form["form-token"]}).status == 303
        page = site.until(visitor, ENDED)
        assert "<strong>Stopped.</strong>" in page
        (line,) = audited(site.process, "redrive stopped", 1)
        assert (line["by"], line["key"]) == ("console", form["key"])
        found = statuses([case.status for case in site.cases()])
        assert 0 < found["redriven"] < count
        assert facts(page)["Sent"] == f"{found['redriven']:,} of {count:,}"
        assert facts(page)["Left as they were"].startswith(f"{found['open']:,}: ")

        rest = f"Redrive {found['open']:,} events"
        wait_until(lambda: rest in visitor.get(f"{PAGE}?vendor=altibbi").text, lambda: site.process.report("is behind"))
        assert visitor.post(PAGE, **site.form(visitor)).status == 303
        site.until(visitor, r"<strong>Sending\.</strong>\s*[1-9]")
        assert site.process.stop() == 0, "a console that ends stops its redrive"
        sent = raw_records(load) - count
        assert statuses([case.status for case in site.cases()])["redriven"] == sent, "what was sent is marked"
