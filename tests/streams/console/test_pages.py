"""Contents of the pages: search, flags, dead letters, and the playground byte for byte as ``fhirline map``."""

import re
from html import unescape

import pytest

from fhirline.mappers.identity import Naming, key
from fhirline.streams.console.views.dead_letters import codes
from fhirline.streams.enrich.stage import CODES as ENRICHMENT_CODES
from fhirline.streams.kafka.headers import EVENT_KEY, header
from fhirline.streams.step2_consume.metrics import CODES
from tests.streams.console.conftest import Site, hostile_event
from tests.streams.console.figures import ALWAYS, MAPPING, figures, require_lists
from tests.support import cli
from tests.support.console_pages import Visitor
from tests.support.paths import ROOT
from tests.support.waiting import wait_until


@pytest.fixture
def visitor(stack: Site) -> Visitor:
    return Visitor(stack.url).log_in()


def test_every_code_of_a_dead_letter_says_what_to_do() -> None:
    assert codes().keys() == {*CODES, *ENRICHMENT_CODES}
    documented = set(re.findall(r"^\| (`[^|]+`) \|", (ROOT / "docs/dead-letters.md").read_text("utf-8"), re.M))
    assert codes().keys() <= {code.strip("` ") for cell in documented for code in cell.split(",")}


def test_an_event_is_found_by_key_by_position_and_by_resource(stack: Site, visitor: Visitor) -> None:
    event_key = header(stack.planted.headers, EVENT_KEY)
    by_key, by_raw = (visitor.get(f"/events?q={text}") for text in (event_key, stack.planted.position))
    assert by_key.status == by_raw.status == 303
    assert by_key.headers["Location"] == by_raw.headers["Location"]
    page = visitor.get(by_key.headers["Location"]).text
    (patient,) = set(re.findall(r"Patient/[0-9a-f-]{36}", page))
    by_resource = visitor.get(f"/events?q={patient}")
    assert by_resource.headers.get("Location") == by_key.headers["Location"]
    provenance = Naming(stack.load.settings.base).id(
        "mediquo", stack.load.tenant, "Provenance", "event", key(event_key or "")
    )
    by_provenance = visitor.get(f"/events?q=Provenance/{provenance}")
    assert by_provenance.headers.get("Location") == by_key.headers["Location"]


def test_a_search_for_something_else_says_what_can_be_searched(visitor: Visitor) -> None:
    assert "neither an event key" in visitor.get("/events?q=Smith").text


def test_the_pipeline_counts_each_vendors_events(stack: Site, visitor: Visitor) -> None:
    wait_until(lambda: "What arrives" in visitor.get("/").text, lambda: stack.process.report("reads nothing"))
    page = visitor.get("/").text
    for vendor in {raw.vendor for raw in stack.load.raws}:
        assert f'href="/events?vendor={vendor}"' in page
    assert "patient_consultation_finished" in page
    latencies = re.findall(r'href="/pipeline/latency[^"]+">(\d+ ms|[\d.]+ (?:s|min|h|d))</a></td>\s*<td', page)
    assert latencies, "of the types that have a Provenance"


def test_each_number_of_the_pipeline_leads_to_what_it_counts(visitor: Visitor) -> None:
    """A topic has events of other tests too."""
    wait_until(lambda: len(figures(visitor.get("/").text)) > 5, lambda: visitor.get("/").text)
    found = figures(visitor.get("/").text)
    assert require_lists(visitor, found) == {*ALWAYS}
    for row in found.values():
        assert row["Received"].number == sum(row[column].number for column in MAPPING)


def test_records_and_those_that_wait_lead_to_their_partitions(stack: Site, visitor: Visitor) -> None:
    """No worker runs: all records of a topic wait. Of the embedded broker, their number is approximate."""
    wait_until(lambda: "What arrives" in visitor.get("/").text, "the console has not read the cluster")
    arrives = visitor.get("/").text.partition('aria-label="What arrives"')[2].partition("</table>")[0]
    links = re.findall(r'href="(/pipeline/partitions[^"]+)">([\d,]+)</a>', arrives)
    assert len(links) == 8, "of four raw topics, all and those that wait"
    for link, _ in links:
        page = visitor.get(unescape(link)).text
        told = re.search(
            r"([\d,]+) records in (\d+) partitions?, of which the group \S+ has yet to take ([\d,]+)", page
        )
        assert told
        rows = re.findall(r'<td class="figure(?: attention)?">([\d,]+)</td>' * 5, page)
        records, waiting = (sum(int(row[column].replace(",", "")) for row in rows) for column in (0, 4))
        assert (f"{records:,}", str(len(rows)), f"{waiting:,}") == told.groups()
        assert records == waiting > 0
    assert visitor.get("/pipeline/partitions?topic=raw.altibbi&group=x").status == 404


def test_a_choice_that_there_is_not_is_refused(visitor: Visitor) -> None:
    for choice in ("became=x", "delivery=x", "tables=x"):
        assert visitor.get(f"/events?{choice}").status == 400


def test_what_to_do_is_said_once_for_a_code(stack: Site, visitor: Visitor) -> None:
    page = visitor.get("/dead-letters").text
    codes = re.findall(r'<a href="/dead-letters/events\?[^"]*">([\w-]+)</a>', page)
    assert len(codes) > len(set(codes))
    assert page.count("<strong>Do:</strong>") == len(set(codes))


def test_a_sample_is_shown_with_what_becomes_of_it(visitor: Visitor) -> None:
    assert "status_update: 6 resources" in visitor.get("/playground?sample=altibbi%20status_update").text
    assert "Nothing has been mapped yet" in visitor.get("/playground").text


def test_a_dead_letter_shows_its_code_and_its_problems(stack: Site, visitor: Visitor) -> None:
    groups = visitor.get("/dead-letters").text
    assert "resource-refused" in groups
    assert codes()["resource-refused"].do in groups.replace("&#39;", "'")
    ids = re.findall(r'href="(/dead-letters/event\?id=[^"]+)"', visitor.get("/dead-letters/events").text)
    assert ids
    assert "Problems" in visitor.get(ids[0]).text


@pytest.mark.parametrize(
    ("vendor", "body"),
    [
        ("altibbi", (ROOT / "streams/demo/samples/altibbi-recommendation.json").read_bytes()),
        ("infermedica", (ROOT / "streams/demo/samples/infermedica-survey.json").read_bytes()),
        ("mediquo", hostile_event("synthetic")),
    ],
)
def test_the_playground_makes_the_bytes_of_the_command_line(visitor: Visitor, vendor: str, body: bytes) -> None:
    form = {
        "vendor": vendor,
        "tenant": "default",
        "body": body.decode(),
        "form-token": visitor.form_token("/playground"),
    }
    answer = visitor.post("/playground/bundle", **form)
    printed = cli.run("map", vendor, env={"PATH": ""}, stdin=body)
    assert printed.stdout.startswith('{"resourceType":"Bundle"')
    assert answer.text == printed.stdout


@pytest.mark.parametrize("body", ["", "{", "[1]", '{"type": "nothing known"}', "\ud83d", "{" * 500])
def test_the_playground_answers_any_body_with_a_page(visitor: Visitor, body: str) -> None:
    token = visitor.form_token("/playground")
    body = body.encode("utf-8", "replace").decode()
    answer = visitor.post("/playground?part", vendor="altibbi", tenant="default", body=body, **{"form-token": token})
    assert answer.status == 200
    assert "cannot be read" in answer.text or "not-supported" in answer.text


@pytest.mark.parametrize(
    "path", ["/events/altibbi/default/999999", "/terminology/nothing", "/dead-letters/event?id=x", "/nothing"]
)
def test_what_does_not_exist_is_a_page_with_404(visitor: Visitor, path: str) -> None:
    answer = visitor.get(path)
    assert answer.status == 404
    assert "<h1>" in answer.text


def test_every_table_is_shown_with_its_rows(visitor: Visitor) -> None:
    tables = re.findall(r'href="(/terminology/[^"]+)"', visitor.get("/terminology").text)
    assert len(tables) > 10
    for table in tables:
        assert "<tbody>" in visitor.get(table).text, table


def test_an_event_says_which_word_of_which_table_has_no_row(stack: Site, visitor: Visitor) -> None:
    """ "Why has this prescription no code?" is answered on the page, and the next step is a button of it."""
    page = visitor.get(f"/events?q={stack.prescription.position}").headers["Location"]
    before = visitor.get(page).text
    assert "full moon" not in before
    assert "to see which word has no row, and in which table" in before
    shown = visitor.post(f"{page}/reveal", reason="a test", **{"form-token": visitor.form_token(page)}).text
    told = re.sub(r"<[^>]+>|\s+", " ", shown)
    assert "“Every full moon” has no row in the table frequency" in re.sub(r" +", " ", told)
    answer = shown.partition("“Every full moon”")[2].partition("</li>")[0]
    (request,) = re.findall(r'href="#(MedicationRequest/[^"]+)"', answer)
    resource = shown.partition(f'<details id="{request}"')[2]
    assert 'no row in <a href="/terminology/frequency">' in resource.partition("</table>")[0]
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', shown))
    draft = re.search(r'name="draft" value="(frequency [^"]+)"', shown)
    assert draft
    tried = visitor.post("/playground", draft=draft[1], **{name: unescape(text) for name, text in fields.items()})
    assert "source: [&#34;Every full moon&#34;]" in tried.text
    assert f"<code>{request}</code>" in tried.text  # of the same tenant, as the event itself
    linked = re.search(r'href="(/playground\?[^"]+table=frequency)"', resource)
    assert linked
    assert 'name="rows-frequency"' in visitor.get(unescape(linked[1])).text
