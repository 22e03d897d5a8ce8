"""The code tables' pages: the ConceptMap of a table, the rows that events use, and the words that they lack."""

import re
from html import unescape

import orjson
import pytest

from fhirline.config.terminology import load_terminology, packaged_table
from fhirline.mappers.instants import Instant
from fhirline.streams.console.table_use import LARGEST, table_use
from fhirline.streams.operate.terminology.missing import Word
from fhirline.streams.step1_receive.raw_record import raw_record
from tests.streams.cli.test_terminology import recommendation
from tests.streams.console.conftest import NAME, Site
from tests.streams.console.test_access import audited
from tests.support import cli
from tests.support.console_pages import Visitor, console
from tests.support.kafka.brokers import RunningBroker
from tests.support.load import load_on
from tests.support.waiting import wait_until


@pytest.fixture
def visitor(stack: Site) -> Visitor:
    return Visitor(stack.url).log_in()


def test_a_tables_concept_map_is_that_of_the_command_line(stack: Site, visitor: Visitor) -> None:
    own = {"PATH": "", "FHIRLINE_BASE": stack.load.settings.base}
    printed = cli.run("conformance", "--format", "ndjson", "--output", "-", env=own).stdout
    written = {
        item["url"].rpartition("/")[2]: item
        for item in map(orjson.loads, printed.splitlines())
        if item["resourceType"] == "ConceptMap"
    }
    assert len(written) > 10
    for table in load_terminology().names:
        answer = visitor.get(f"/terminology/{table}/concept-map")
        page = visitor.get(f"/terminology/{table}").text
        if table in written:
            assert orjson.loads(answer.text) == written[table]
            assert f"<code>{written[table]['url']}</code>" in page
        else:
            assert answer.status == 404
            assert "no codes" in page


def test_words_and_rows_are_counted_for_a_reason_which_is_audited(stack: Site, visitor: Visitor) -> None:
    token = {"form-token": visitor.form_token("/terminology")}
    assert visitor.post("/terminology/use", vendor="altibbi", reason=" ", **token).status == 400
    assert visitor.post("/terminology/use", vendor="nobody", reason="x", **token).status == 404
    page = visitor.post("/terminology/use", vendor="altibbi", reason="ticket 12", **token).text
    (line,) = audited(stack.process, "words of events shown", 1)
    assert (line["reason"], line["by"], line["vendor"]) == ("ticket 12", "console", "altibbi")
    words, rows = (part.partition("</section>")[0] for part in page.split('href="/terminology/frequency"')[1:])
    assert '<th scope="row">Every full moon</th>' in words
    assert "not used" in rows


def test_rows_and_words_are_counted_by_event(own_broker: RunningBroker) -> None:
    load = load_on(own_broker)
    drugs = {"frequency": "Every full moon"}, {"frequency": "every  FULL moon"}, {"frequency": "once daily"}
    prose = {"frequency": "as Jane Doe said, phone 0612345678"}
    bodies = [recommendation(1, *drugs, prose), recommendation(2, drugs[2], drugs[2]), recommendation(3, drugs[0])]
    at = Instant("2024-06-12T15:20:00Z", (1_718_205_600, ""))
    large = recommendation(4, {"frequency": "At noon", "name": "x" * LARGEST})
    load.send([raw_record("altibbi", load.tenant, orjson.dumps(body), at, None, 64) for body in [*bodies, large]])
    use = table_use(load.settings, "altibbi")
    assert (use.events, use.passed_over) == (3, 1)
    (frequency,) = (table for table in use.tables if table.name == "frequency")
    assert [(row.source[0], events) for row, events in frequency.rows] == [("once daily", 2)]
    assert frequency.words == [Word("frequency", "Every full moon", 3, 2)]
    assert frequency.hidden == 1
    assert frequency.unused == len(packaged_table("frequency").rows) - 1
    assert '["Every full moon"] # 3 times in 2 events' in frequency.draft
    assert "Jane" not in str(use)


def test_what_a_vendor_started_to_send_is_counted(own_broker: RunningBroker) -> None:
    load = load_on(own_broker)
    at = Instant("2024-06-12T15:20:00Z", (1_718_205_600, ""))
    bodies = [{**recommendation(number, {}), "loyalty": {"tier": "gold"}} for number in (1, 2)]
    types = ("wallet_topup", "wallet_topup", "call Jane Doe, 0612345678")
    bodies += [{"type": type_, "consultation_id": number} for number, type_ in enumerate(types)]
    load.send([raw_record("altibbi", load.tenant, orjson.dumps(body), at, None, 64) for body in bodies])
    with console(load.settings) as (url, process):
        visitor = Visitor(url).log_in()
        wait_until(lambda: 'href="/terminology#sent"' in visitor.get("/").text, lambda: process.report("has no link"))
        token = {"form-token": visitor.form_token("/terminology")}
        page = visitor.post("/terminology/use", vendor="altibbi", reason="ticket 12", **token).text
    assert re.search(r"<code>/loyalty</code></th><td[^>]*>2<", page)
    assert re.search(r"<code>wallet_topup</code></th><td[^>]*>2<", page)
    assert re.search(r"does not read like a term</span></th><td[^>]*>1<", page)
    assert "Jane" not in page


def test_words_that_may_be_about_a_patient_are_counted_alone(stack: Site, visitor: Visitor) -> None:
    token = {"form-token": visitor.form_token("/terminology")}
    page = visitor.post("/terminology/use", vendor="mediquo", reason="ticket 13", **token).text
    assert "What mediquo sends" in page
    assert NAME not in page


def test_the_words_become_rows_in_the_playground(stack: Site, visitor: Visitor) -> None:
    token = {"form-token": visitor.form_token("/terminology")}
    page = visitor.post("/terminology/use", vendor="altibbi", reason="ticket 14", **token).text
    rows = re.search(r'name="rows-frequency" value="([^"]+)"', page)
    assert rows
    opened = visitor.post(
        "/playground", vendor="altibbi", tenant="default", **token, **{"rows-frequency": unescape(rows[1])}
    )
    assert "Every full moon&#34;] # " in opened.text
    assert "Nothing has been mapped yet" in opened.text
