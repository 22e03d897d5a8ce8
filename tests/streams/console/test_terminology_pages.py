"""The code tables' pages: the ConceptMap of a table, the rows that events use, and the words that they lack."""

import re
from html import unescape

import orjson
import pytest

from fhirline.config.terminology import load_terminology
from tests.streams.console.conftest import NAME, Site
from tests.streams.console.test_access import audited
from tests.support import cli
from tests.support.console_pages import Visitor


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
    assert audited(stack, "words of events shown") == []
    page = visitor.post("/terminology/use", vendor="altibbi", reason="ticket 12", **token).text
    (line,) = audited(stack, "words of events shown")
    assert (line["reason"], line["by"], line["vendor"]) == ("ticket 12", "console", "altibbi")
    frequency = page.partition('href="/terminology/frequency"')[2].partition("</section>")[0]
    assert re.search(
        r'<th scope="row">Every full moon</th><td class="figure">1</td><td class="figure">1</td>', frequency
    )
    assert "rows were not used" in frequency
    statuses = page.partition('href="/terminology/altibbi-status"')[2].partition("</section>")[0]
    used = re.findall(r'<th scope="row">([^<]+)</th>.*?<td class="figure">(\d+)</td></tr>', statuses, re.S)
    sent = [orjson.loads(raw.value or b"{}") for raw in stack.load.raws if raw.vendor == "altibbi"]
    with_new = sum("in_progress" in (body.get("old_status"), body.get("new_status")) for body in sent)
    assert sum(int(count) for words, count in used if "in_progress" in unescape(words).split(", ")) == with_new > 0


def test_words_that_may_be_about_a_patient_are_counted_alone(stack: Site, visitor: Visitor) -> None:
    token = {"form-token": visitor.form_token("/terminology")}
    page = visitor.post("/terminology/use", vendor="mediquo", reason="ticket 13", **token).text
    assert "Use of the code tables" in page
    assert NAME not in page


def test_the_words_become_rows_in_the_playground(stack: Site, visitor: Visitor) -> None:
    token = {"form-token": visitor.form_token("/terminology")}
    page = visitor.post("/terminology/use", vendor="altibbi", reason="ticket 14", **token).text
    rows = re.search(r'name="rows-frequency" value="([^"]+)"', page)
    assert rows
    opened = visitor.post(
        "/playground", vendor="altibbi", tenant="default", **token, **{"rows-frequency": unescape(rows[1])}
    )
    assert "Every full moon&#34;] # 1 time in 1 event" in opened.text
