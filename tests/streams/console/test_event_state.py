"""The state before and after an event, as today's mapping computes it and as the state's topic has it."""

import re
from html import unescape

import orjson
import pytest

from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.folding import StateUpdate
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.mappers.results import Entry, Version
from fhirline.streams.console.event_state import state_changes
from fhirline.streams.console.lookup import Lookup
from fhirline.streams.operate.trace.explain import Explained
from fhirline.streams.step1_receive.raw_record import raw_record
from fhirline.topics.declared import state_topic
from tests.support.console_pages import Visitor, console
from tests.support.kafka.brokers import RunningBroker
from tests.support.last_records import held
from tests.support.load import Load, load_on

AT = Instant("2024-06-12T15:20:00Z", (1_718_205_600, ""))
STATUSES = (("new", "in_progress", "10"), ("in_progress", "closed", "30"), ("new", "assigned", "05"))
"""The last one arrives late."""
AGAIN = "the same again"


@pytest.fixture
def load(own_broker: RunningBroker) -> Load:
    made = load_on(own_broker)
    bodies = [
        {
            "type": "status_update",
            "consultation_id": 9,
            "user_id": 5,
            "old_status": old,
            "new_status": new,
            "datetime": f"2024-06-01T12:{minute}:00Z",
        }
        for old, new, minute in STATUSES
    ]
    made.send([raw_record("altibbi", made.tenant, orjson.dumps(body), AT, None, 64) for body in bodies])
    return made


def test_values_that_differ_behind_what_is_shown_have_changed() -> None:
    text, version = "x" * 5_000, Version((0, ""), "key")
    before = InMemoryState()
    before.apply([StateUpdate("Patient/1", "name", Entry(version, text))])
    for last, kind in (("", "the same again"), ("y", "changed")):
        updates = (StateUpdate("Patient/1", "name", Entry(version, text[:-1] + (last or "x"))),)
        (change,) = state_changes(Explained([], 1, before, updates))["changes"]
        assert (change.kind, change.before == change.after) == (kind, True)


def test_what_each_event_leaves_is_what_the_next_one_finds_and_the_topic_has(load: Load) -> None:
    lookup = Lookup(load.settings)
    known: dict[tuple[str, str], str] = {}
    for number, raw in enumerate(load.raws):
        found = state_changes(lookup.explained(raw, lambda: None))
        assert found["earlier"] == number
        assert found["changes"]
        for change in found["changes"]:
            assert change.before == known.get((change.subject, change.name), "")
            known[change.subject, change.name] = change.after
            assert change.kind == (
                "new" if not change.before else "changed" if change.after != change.before else AGAIN
            )
    lookup.close()
    stored = {
        tuple(orjson.loads(key)[1:]): orjson.loads(value or b"null")["v"]
        for (_, _, key), (value, _) in held(load.settings, state_topic("altibbi")).items()
    }
    assert {entry: orjson.loads(value) for entry, value in known.items()} == stored
    late = [name for _, name in known if name.startswith("transition")]
    assert len(late) == len(STATUSES)


def test_the_page_shows_it_once_it_is_asked_for(load: Load) -> None:
    with console(load.settings) as (url, _):
        visitor = Visitor(url).log_in()
        page = visitor.get(f"/events?q={load.raws[1].position}").headers["Location"]
        assert "State before" not in visitor.get(page).text
        token = {"form-token": visitor.form_token(page)}
        assert "State before and after" not in visitor.post(f"{page}/reveal", reason="a test", **token).text
        shown = visitor.post(f"{page}/reveal", reason="a test", sources="on", **token).text
    section = unescape(shown.partition("<h3>State before and after</h3>")[2])
    changes = re.findall(r'<summary><code>([^<]+)</code> (.+?) <span class="tag">(.+?)</span>', section)
    assert any(name.startswith("transition") and kind == "new" for _, name, kind in changes)
    assert any(subject.startswith("Patient/") and kind in ("changed", AGAIN) for subject, _, kind in changes)
    assert "1 earlier event of the same key" in re.sub(r"\s+", " ", section)
