"""Change review: what a replay would change, publishing it once somebody has read what that does, and hostile runs."""

import re
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.streams.console.replays import options
from fhirline.streams.kafka.reader import Scanner
from fhirline.streams.operate.replay.codes import CodeChange
from fhirline.streams.operate.replay.difference import Difference, Kind
from fhirline.streams.operate.replay.inputs import inputs_of
from fhirline.streams.operate.replay.kept_report import FILE, KeptReport
from fhirline.streams.operate.replay.plan import Plan
from fhirline.streams.operate.replay.report import Report, Tally
from fhirline.streams.operate.replay.selection import Selection
from fhirline.streams.step3_restore.erasure_list import ErasureList
from fhirline.topics.declared import canonical_topic
from tests.streams.console.conftest import SCRIPT
from tests.streams.console.review import NOW, WAS, Review, review, site
from tests.streams.console.test_access import audited
from tests.support.console_pages import Visitor
from tests.support.kafka.brokers import RunningBroker
from tests.support.waiting import wait_until

__all__ = ["site"]

RUN = "20260101-101500-4711"
EXAMPLE = "MedicationRequest/2b25c0ff-ee00-5000-8000-000000000001"
NOBODY = ErasureList(None).fingerprint


@pytest.fixture
def visitor(site: Review) -> Visitor:
    """Somebody who comes when no replay is running."""
    found = site.visitor()
    site.ended(found)
    return found


def frequencies(settings: Settings, topic: str) -> Counter[str]:
    """The codes of the prescriptions' frequencies, of the last value of each key."""
    values: dict[bytes, bytes | None] = {}
    with Scanner(settings) as scanner:
        for message in scanner.read(dict.fromkeys(scanner.topic_partitions([topic]))):
            values[message.key() or b""] = message.value()
    text = b"".join(value for value in values.values() if value)
    return Counter({code: text.count(f'"code":"{code}"'.encode()) for code in (WAS, NOW)})


def by_hand(site: Review, **changes: object) -> Path:
    """Make a run's folder as a replay of these settings leaves it, and change its plan."""
    inputs = inputs_of(site.settings.model_copy(update={"terminology_dir": site.runs.parent / "tables"}))
    plan = Plan(RUN, "2026-01-01T10:15:00Z", Selection(("altibbi",)), (), "", False, inputs, NOBODY)
    folder = site.runs / RUN
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    replace(plan, **changes).save(folder)  # type: ignore[arg-type]  # fields of a Plan
    return folder


@pytest.mark.long
def test_a_change_is_compared_reviewed_shadowed_and_published(site: Review, visitor: Visitor) -> None:
    path = site.compared(visitor)
    page = visitor.get(path).text
    assert re.search(rf"<code>{WAS}</code></td><td><code>{NOW}</code></td>", page), page
    assert "dosageInstruction[].timing.code.coding[].code" in page
    assert re.search(r'href="/events\?q=MedicationRequest/[0-9a-f-]{36}"', page), "examples by reference"
    assert page.count('class="attention"') == 0, "nothing has changed since"
    line = audited(site.process, "replay begun", 1)[-1]
    assert (line["by"], line["selection"]) == ("console", "altibbi")
    before = frequencies(site.settings, canonical_topic("MedicationRequest"))
    assert before[WAS] > 0
    assert before[NOW] == 0

    said = visitor.get(f"{path}/shadow").text
    assert "delete them when they have served" in said
    token = visitor.form_token(f"{path}/shadow")
    assert visitor.post(f"{path}/shadow", prefix="a b", **{"form-token": token}).status == 400
    assert visitor.post(f"{path}/shadow", prefix="shadow.", **{"form-token": token}).status == 303
    assert "Published." in site.ended(visitor)
    shadow = frequencies(site.settings, f"shadow.{canonical_topic('MedicationRequest')}")
    assert shadow == {NOW: before[WAS], WAS: 0}
    assert frequencies(site.settings, canonical_topic("MedicationRequest")) == before

    said = visitor.get(f"{path}/publish").text
    assert "all workers must run this mapping" in said
    assert frequencies(site.settings, canonical_topic("MedicationRequest")) == before, "the page publishes nothing"
    assert visitor.post(f"{path}/publish").status == 403, "no form token"
    assert visitor.post(f"{path}/publish", **{"form-token": token}).status == 303
    assert "Published." in site.ended(visitor)
    assert frequencies(site.settings, canonical_topic("MedicationRequest")) == {NOW: before[WAS], WAS: 0}
    lines = audited(site.process, "replay published", 2, run=path.rpartition("/")[2])
    assert [line.get("prefix") for line in lines] == ["shadow.", None]
    by = [line["by"] for line in audited(site.process, "replay published", 2)]
    assert by == ["console", "console"], "the processes of the console's replays write no second line"
    assert visitor.get(path).status == 404, "what is published leaves no run"

    form = {"vendor": "altibbi", "form-token": token}
    assert visitor.post("/changes", **form).status == 303
    assert "Nothing differs." in site.ended(visitor)


def test_a_run_is_discarded_after_a_page_that_says_so(site: Review, visitor: Visitor) -> None:
    folder = by_hand(site)
    said = visitor.get(f"/changes/{RUN}/discard")
    assert "will be removed" in said.text
    assert folder.exists()
    token = visitor.form_token(f"/changes/{RUN}/discard")
    assert visitor.post(f"/changes/{RUN}/discard", **{"form-token": token}).headers["Location"] == "/changes"
    assert not folder.exists()
    assert [line["run"] for line in audited(site.process, "replay discarded", 1)] == [RUN]


@pytest.mark.parametrize("damage", ["run.json", "journal", "report"])
def test_a_damaged_run_has_a_page_that_says_what_to_do(site: Review, visitor: Visitor, damage: str) -> None:
    folder = by_hand(site)
    if damage == "run.json":
        (folder / "run.json").write_text('{"id": "<script>"}')
    elif damage == "journal":
        plan = orjson.loads((folder / "run.json").read_bytes())
        part = {"vendor": "altibbi", "topic": "raw.altibbi", "partition": 0, "start": 0, "end": 9}
        plan["ranges"] = [{**part, "live_from": 9, "complete": True, "offsets": None}]
        (folder / "run.json").write_bytes(orjson.dumps(plan))
        (folder / "raw.altibbi-0.sqlite").write_bytes(b"<script>" * 1_000)
    else:
        (folder / FILE).write_text('{"types": {"Patient": {"kinds": {"no kind": 1}}}}')
    page = visitor.get(f"/changes/{RUN}")
    assert page.status == 200
    assert "<script>" not in page.text
    assert ("has not been compared" if damage == "report" else "can only be discarded") in page.text
    assert visitor.get("/changes").status == 200
    if damage != "report":
        assert visitor.get(f"/changes/{RUN}/publish").status == 409
    assert visitor.get(f"/changes/{RUN}/discard").status == 200


def test_what_a_run_contains_is_escaped(site: Review, visitor: Visitor) -> None:
    folder = by_hand(site, selection=Selection((SCRIPT,), tenant=SCRIPT, event_types=(SCRIPT,)), prefix=SCRIPT)
    change, example = CodeChange(SCRIPT, SCRIPT, SCRIPT), Difference(Kind.CHANGED, SCRIPT, 0, SCRIPT, "", (SCRIPT,))
    tally = Tally(Counter({Kind.CHANGED: 1}), Counter({SCRIPT: 1}), [example], Counter({change: 1}))
    KeptReport(SCRIPT, 1, {SCRIPT: 1}, SCRIPT, Report({"Patient": tally})).save(folder)
    for path in ("/changes", f"/changes/{RUN}", f"/changes/{RUN}/publish", f"/changes/{RUN}/discard"):
        page = visitor.get(path)
        assert page.status == 200, path
        assert SCRIPT not in page.text
        assert page.text.count("<script") == 1
    assert "&lt;script&gt;" in visitor.get(f"/changes/{RUN}").text


def test_an_example_that_no_event_has_made_yet_is_no_link(site: Review, visitor: Visitor) -> None:
    kinds = {"Patient/new": Kind.NEW, "Patient/changed": Kind.CHANGED}
    examples = [Difference(kind, reference, 0, "raw.altibbi/0/0", "", ("id",)) for reference, kind in kinds.items()]
    tally = Tally(Counter({Kind.CHANGED: 1, Kind.NEW: 1}), Counter({"id": 1}), examples, Counter())
    KeptReport("", 1, {}, "", Report({"Patient": tally})).save(by_hand(site))
    page = visitor.get(f"/changes/{RUN}").text
    assert "new: <code>Patient/new</code>" in page
    assert 'changed: <a href="/events?q=Patient/changed">' in page


def test_a_run_whose_inputs_have_changed_is_not_published(site: Review, visitor: Visitor) -> None:
    inputs = {**inputs_of(site.settings), "table terminology/route.yaml": "another"}
    by_hand(site, inputs=inputs)
    page = visitor.get(f"/changes/{RUN}").text
    assert "It cannot be published" in page
    assert "<li>table terminology/route.yaml</li>" in page
    assert f'href="/changes/{RUN}/publish"' not in page
    token = visitor.form_token("/changes")
    assert visitor.post(f"/changes/{RUN}/publish", **{"form-token": token}).status == 409


def test_a_run_from_before_an_erasure_shows_no_example_and_is_not_published(site: Review, visitor: Visitor) -> None:
    """An example may be of the erased patient."""
    folder = by_hand(site)
    tally = Tally(Counter({Kind.CHANGED: 1}), Counter(), [Difference(Kind.CHANGED, EXAMPLE, 0, "")])
    KeptReport("2026-01-01T10:16:00Z", 1, {}, "t", Report({"MedicationRequest": tally})).save(folder)
    assert EXAMPLE in visitor.get(f"/changes/{RUN}").text
    by_hand(site, erased="of another list")
    KeptReport("2026-01-01T10:16:00Z", 1, {}, "t", Report({"MedicationRequest": tally})).save(folder)
    page = visitor.get(f"/changes/{RUN}").text
    assert "A patient was erased since it began" in page
    assert EXAMPLE not in page
    assert re.findall(rf'href="/changes/{RUN}/(\w+)"', page) == ["discard"]
    assert visitor.get(f"/changes/{RUN}/publish").status == 409


def test_a_replay_is_stopped_and_no_other_is_begun_beside_it(site: Review, visitor: Visitor) -> None:
    """Again, where the replay was over before it was told to stop."""
    token = visitor.form_token("/changes")
    pages = [""]

    def stopped() -> bool:
        begun = [visitor.post("/changes", **{"form-token": token}).status for _ in range(2)]
        visitor.post("/changes/progress/stop", **{"form-token": token})
        pages.append(site.ended(visitor))
        return begun == [303, 409] and "Stopped." in pages[-1]

    wait_until(stopped, lambda: site.process.report(pages[-1]))
    assert audited(site.process, "replay stopped", 1)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"vendor": "nobody"}, "The vendor is none of"),
        ({"tenant": "A b"}, "no slug"),
        ({"type": "--publish"}, "no such event type"),
        ({"since": "yesterday"}, "no RFC 3339 instant"),
        ({"since": "2024-06-02T00:00:00Z", "until": "2024-06-01T00:00:00Z"}, "not later than since"),
    ],
)
def test_a_wrong_selection_is_said_beside_the_form(
    site: Review, visitor: Visitor, form: dict[str, str], said: str
) -> None:
    answer = visitor.post("/changes", **form, **{"form-token": visitor.form_token("/changes")})
    assert answer.status == 422
    assert said in answer.text
    for value in form.values():
        assert f'value="{value}"' in answer.text or form.keys() <= {"vendor", "type"}


@pytest.mark.parametrize("id", ["..", "%2e%2e%2foutside", "20260101-000000-1", "20260101-000000-1%2f.."])
def test_a_run_that_is_none_is_not_found(visitor: Visitor, id: str) -> None:
    assert visitor.get(f"/changes/{id}").status == 404


def test_a_read_only_console_shows_runs_and_changes_nothing(own_broker: RunningBroker, tmp_path: Path) -> None:
    with review(own_broker, tmp_path) as site:
        visitor = site.visitor()
        folder = by_hand(site)
        assert RUN in visitor.get("/changes").text
        page = visitor.get(f"/changes/{RUN}").text
        assert "--allow replay" in page
        assert "<form" not in page.partition("<main")[2]
        token = visitor.form_token("/playground")
        for action in ("publish", "shadow", "discard", "compare"):
            assert visitor.get(f"/changes/{RUN}/{action}").status == 403
            assert visitor.post(f"/changes/{RUN}/{action}", **{"form-token": token}).status == 403
        assert visitor.post("/changes", **{"form-token": token}).status == 403
        assert visitor.post("/changes/progress/stop", **{"form-token": token}).status == 403
        assert folder.exists()
        assert '"logger":"audit"' not in site.process.output


def test_a_console_that_ends_takes_its_replay_along(own_broker: RunningBroker, tmp_path: Path) -> None:
    with review(own_broker, tmp_path, "--allow", "replay") as site:
        visitor = site.visitor()
        assert visitor.post("/changes", **{"form-token": visitor.form_token("/changes")}).status == 303
        wait_until(lambda: using(site.runs), lambda: site.process.report("begins no replay"))  # it gets its environment
        assert site.process.stop() == 0
        assert using(site.runs) == []


def using(folder: Path) -> list[int]:
    """The processes that have the folder in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # of a process that has ended, or of somebody else
            if f"FHIRLINE_REPLAY_DIR={folder}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def test_options_say_what_the_selection_says() -> None:
    """``until`` of a selection as of a time is that time."""
    until = "2026-01-01T00:00:00Z"
    assert options(Selection(("azodha",), until=until, as_of=True)) == ["--vendor=azodha", f"--as-of={until}"]
    whole = Selection(("azodha", "mediquo"), "acme", until=until, partitions=(0, 2), event_types=("a",))
    assert options(whole) == [
        "--vendor=azodha",
        "--vendor=mediquo",
        "--tenant=acme",
        f"--until={until}",
        "--partitions=0,2",
        "--event-type=a",
    ]
