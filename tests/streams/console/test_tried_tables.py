"""Rows that the playground tries: for one body, in the bytes of ``fhirline map`` with a folder of the same files."""

import re
from html import unescape
from pathlib import Path

import orjson
import pytest
import yaml

from fhirline.config.settings import load_settings
from fhirline.config.terminology import TODO, load_terminology
from fhirline.streams.console.tried_tables import opened, terminology_with, with_draft
from fhirline.streams.operate.terminology.missing import Word
from tests.streams.cli.test_terminology import recommendation
from tests.streams.console.conftest import Site
from tests.support import cli
from tests.support.console_pages import Answer, Visitor

BODY = orjson.dumps(recommendation(1, {"frequency": "Every full moon", "dosageUnit": "sachet"})).decode()
FREQUENCY = """version: own-1
title: Own
rows:
  - source: [every full moon]
    means: { frequency: 1, period: 1, period_unit: mo }
"""
UNIT = "version: own-1\ntitle: Own\nrows:\n  - source: [sachet]\n    means: { dose_class: sachet, unit: sachet }\n"
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.fixture
def visitor(stack: Site) -> Visitor:
    return Visitor(stack.url).log_in()


def sent(visitor: Visitor, path: str, **fields: str) -> Answer:
    token = visitor.form_token("/playground")
    return visitor.post(path, vendor="altibbi", tenant="default", body=BODY, **{"form-token": token}, **fields)


def test_tried_rows_make_the_bytes_of_the_command_line(visitor: Visitor, tmp_path: Path) -> None:
    (tmp_path / "frequency.yaml").write_text(FREQUENCY, "utf-8")
    (tmp_path / "dose-unit.yaml").write_text(UNIT, "utf-8")
    own = {"PATH": "", "FHIRLINE_TERMINOLOGY_DIR": str(tmp_path)}
    printed = cli.run("map", "altibbi", env=own, stdin=BODY.encode())
    plain = cli.run("map", "altibbi", env={"PATH": ""}, stdin=BODY.encode())
    assert '"periodUnit":"mo"' in printed.stdout
    tried = {"rows-frequency": FREQUENCY.replace("\n", "\r\n"), "rows-dose-unit": UNIT}  # as browsers send lines
    assert sent(visitor, "/playground/bundle", **tried).text == printed.stdout
    assert sent(visitor, "/playground/bundle").text == plain.stdout != printed.stdout  # they are gone with the request


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FREQUENCY.replace("mo }", "moon }"), r"frequency\.yaml:5: rows\.0\..*'mo'"),
        (FREQUENCY.replace("mo }", f"{TODO} }}"), r"frequency\.yaml:4: rows\.0: this row is a draft"),
        ("version: [", r"frequency\.yaml:1: not valid YAML"),
        ("version: 2024-99-99", r"frequency\.yaml: a value cannot be read: month must be in 1\.\.12; put it in quotes"),
        (LAUGHS, r"frequency\.yaml:2: an alias cannot be tried"),
        ("[" * 59_000, r"frequency\.yaml:1: is nested deeper than 20 levels"),
        ("x" * 60_001, r"frequency\.yaml: has 60,001 characters"),
    ],
)
def test_a_wrong_row_is_told_with_its_line_and_left_out(visitor: Visitor, text: str, says: str) -> None:
    tried = {"rows-frequency": text, "rows-dose-unit": UNIT}
    assert re.match(says, unescape(sent(visitor, "/playground/bundle", **tried).text).split("<p>")[1])
    page = unescape(sent(visitor, "/playground?part", **tried).text)
    assert re.search(says, page)
    assert "mapped without this file" in page
    assert "“Every full moon”" in page  # the word still lacks a row
    assert "“sachet”" not in page


def test_a_word_becomes_a_drafted_row_and_the_table_a_file(visitor: Visitor, tmp_path: Path) -> None:
    page = unescape(sent(visitor, "/playground").text)
    drafts = re.findall(r'name="draft" value="([^"]+)"', page)
    assert [draft.split()[0] for draft in drafts] == ["dose-unit", "frequency"]
    drafted = sent(visitor, "/playground", draft=drafts[1])
    assert "this row is a draft: replace each TODO" in drafted.text
    found = re.search(r'<textarea id="rows-frequency"[^>]*>(.*?)</textarea>', drafted.text, re.S)
    assert found
    text = unescape(found[1])
    (tmp_path / "event.json").write_text(BODY, "utf-8")
    printed = cli.run("terminology", "draft", "altibbi", tmp_path / "event.json", env={"PATH": ""}).stdout
    row = text.partition("rows:\n")[2]
    assert row.startswith('  - source: ["Every full moon"]')
    assert row in printed
    again = sent(visitor, "/playground", draft=drafts[1], **{"rows-frequency": text})
    assert again.text.count("Every full moon&#34;]") == 1  # not a second time
    saved = sent(visitor, "/playground/tables/frequency.yaml", **{"rows-frequency": text})
    assert saved.headers["Content-Disposition"] == 'attachment; filename="frequency.yaml"'
    assert saved.text == text
    assert sent(visitor, "/playground/tables/route.yaml", **{"rows-frequency": text}).status == 404


def test_a_table_is_opened_and_left_out_again(visitor: Visitor) -> None:
    opened = unescape(sent(visitor, "/playground", table="route", open="on").text)
    assert 'name="rows-route"' in opened
    assert "route.yaml:4: rows.0: this row is a draft" in opened
    assert "- source: [TODO]\n    codings: [{ system:" in opened
    assert 'name="rows-route"' in visitor.get("/playground?vendor=altibbi&type=status_update&table=route").text
    page = sent(visitor, "/playground", **{"rows-route": FREQUENCY, "leave-out": "route"}).text
    assert 'name="rows-route"' not in page


def test_rows_take_the_place_of_the_deployments_file_and_leave_its_others(tmp_path: Path) -> None:
    (tmp_path / "frequency.yaml").write_text(FREQUENCY.replace("full moon", "new moon"), "utf-8")
    (tmp_path / "dose-unit.yaml").write_text(UNIT, "utf-8")
    settings = load_settings().model_copy(update={"terminology_dir": tmp_path})
    assert opened(settings, {}, "frequency") == {"frequency": (tmp_path / "frequency.yaml").read_text("utf-8")}
    drafted = with_draft(settings, {}, Word("frequency", "at dawn", 1, 1))["frequency"]
    assert drafted.startswith((tmp_path / "frequency.yaml").read_text("utf-8"))
    assert [row["source"] for row in yaml.safe_load(drafted)["rows"]] == [["every new moon"], ["at dawn"]]
    tried, problems = terminology_with(settings, {"frequency": FREQUENCY})
    assert problems == {}
    assert tried.row("frequency", "every full moon")
    assert tried.row("frequency", "every new moon") is None
    assert tried.row("dose-unit", "sachet")
    assert load_terminology(tmp_path).row("frequency", "every new moon")  # of the deployment, as before
    assert load_terminology(tmp_path).row("frequency", "every full moon") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1", "1: must be names with values"),
        ("version: 1", "1: version: must be a text; put it in quotes"),
        ("version: own-1", "1: title: is missing"),
        ("version: own-1\ntitle: x\nrows: 5", "3: rows: must be a list"),
        ("version: own-1\ntitle: x\nrows:\n  - source: []", "4: rows.0.source: must have at least 1 item"),
        ("version: own-1\ntitle: x\nrows:\n  - 1", "4: rows.0: must be names with values"),
        (
            "version: own-1\ntitle: x\nrows:\n  - source: [x]\n    code: x",
            "5: rows.0.code: there is no such name here; correct it, or remove it",
        ),
    ],
)
def test_a_mistake_in_a_row_is_told_in_plain_words(text: str, said: str) -> None:
    _, problems = terminology_with(load_settings(), {"frequency": text})
    assert problems == {"frequency": f"frequency.yaml:{said}"}
