"""Identifiers planted into every field of every payload: none of them is in the tables without identities."""

import copy
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from fhirline.config.settings import Settings
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.tables.catalog import load_catalog
from tests.support.cases import BASE, Case, cases
from tests.support.mutations import places
from tests.support.without_identities import catalog_of, rows_of

HASH = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Kind:
    """A kind of identifier. ``traces``: what would be left of it, in lower case; in a text or in a number."""

    name: str
    value: Any
    traces: tuple[str, ...]


KINDS = (
    Kind("name", "Zebulon Quixworth", ("zebulon", "quixworth")),
    Kind("address", "12 Quixworth Lane, 54321 Zebtown", ("quixworth", "54321", "zebtown")),
    Kind("postal code", "98765-4321", ("98765",)),
    Kind("date", "1931-07-19", ("1931-07",)),
    Kind("moment", "2019-11-23T04:53:21.987654Z", ("2019-11-23", "987654")),
    Kind("telephone", "+49 555 0123456", ("0123456",)),
    Kind("e-mail", "zebulon@quix.example", ("zebulon", "quix.")),
    Kind("social security", "078-05-1120", ("078-05",)),
    Kind("record number", "MRN778812345", ("mrn", "778812345")),
    Kind("plan number", "QX-4455667788", ("4455667788",)),
    Kind("account", "DE89370400440532013000", ("37040044",)),
    Kind("licence", "B072RRE2I55", ("072rre",)),
    Kind("plate", "ZQ-XY 4711", ("zq-xy",)),
    Kind("serial number", "SN:a8f9-QX77", ("a8f9-qx77",)),
    Kind("URL", "https://quix.example/r/99887766?p=zebulon", ("quix.", "99887766")),
    Kind("IP address", "203.0.113.77", ("203.0.113",)),
    Kind("biometric", "ZmluZ2VycHJpbnQtcXVpeA==", ("zmluz",)),
    Kind("photograph", "data:image/png;base64,UXVpeHdvcnRo", ("uxvpehdv", "base64")),
    Kind("fake ICD code", "Q12.QUIXWORTH", ("quixworth",)),
    Kind("fake code", "s_778812345", ("778812345",)),
    Kind("whole number", 5550123456789, ("5550123456789", "5550123")),
    Kind("number", 987654321.25, ("987654321",)),
)

WITH = load_catalog(Settings(base=BASE))


def planted_in_all(body: dict[str, Any], first: int, replace: bool) -> dict[str, Any]:
    """Plant into all leaves but those that say what the event is, into each the kind after that of the one before it.

    ``first``: the number of the first kind. ``replace``: in the place of what a leaf says, or behind it.
    """
    changed = copy.deepcopy(body)
    for number, path in enumerate([path for path in places(body) if is_leaf(body, path)], first):
        if not (path[-1] in ROUTING and len(path) < 3):
            plant(changed, path, KINDS[number % len(KINDS)], replace)
    added = KINDS[first % len(KINDS)]
    changed[str(added.value)] = added.value
    return changed


ROUTING = frozenset({"event", "eventType", "event_type", "type", "name", "action"})


def is_leaf(body: Any, path: tuple[Any, ...]) -> bool:
    return not isinstance(at(body, path), dict | list)


def at(body: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        body = body[key]
    return body


def plant(body: Any, path: tuple[Any, ...], kind: Kind, replace: bool) -> None:
    parent, value = at(body, path[:-1]), at(body, path)
    text = isinstance(value, str) and isinstance(kind.value, str)
    parent[path[-1]] = f"{value} {kind.value}" if text and not replace else kind.value


def resources_of(case: Case, events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what events become, one after another."""
    normalize, memory = case.normalizer(), InMemoryState()
    for position, body in enumerate(events):
        found = normalize(case.envelope(body, position), memory)
        memory.apply(found.state_updates)
        yield from (orjson.loads(output.value) for output in found.outputs)
        if found.outcome is not None:
            yield orjson.loads(found.outcome.value)


TRACES = re.compile("|".join(re.escape(trace) for trace in sorted({item for kind in KINDS for item in kind.traces})))


def traces_in(rows: Iterator[tuple[str, dict[str, Any]]]) -> set[tuple[str, str]]:
    """Return the columns that show something of an identifier, and its trace. Hashes are not searched."""
    return {
        (f"{table}.{column}", trace)
        for table, row in rows
        for column, value in row.items()
        if value is not None and not HASH.fullmatch(str(value))
        for trace in TRACES.findall(shown(value))
    }


def shown(value: Any) -> str:
    return f"{value:f}" if isinstance(value, float) else str(value).lower()


def plant_everywhere(chosen: list[Case], first: int, replace: bool) -> set[tuple[str, str]]:
    """Return what the normal tables show of the identifiers, once those without identities show none."""
    seen: set[tuple[str, str]] = set()
    for number, case in enumerate(chosen):
        events = [planted_in_all(body, first + number, replace) for body in case.events]
        found = [*resources_of(case, events)]
        assert traces_in(rows_of(catalog_of(), found)) == set(), case.name
        seen |= traces_in(rows_of(WITH, found))
    return seen


FIELDS = int(os.environ.get("PLANTING_FIELDS", "300"))
"""Number of fields that are planted alone. There are some thousands."""


@pytest.mark.long
def test_no_identifier_is_shown_that_all_fields_hold() -> None:
    """Each kind in each field, in its place and behind it. The normal tables show them in a hundred columns."""
    seen = set[tuple[str, str]]()
    for number in range(len(KINDS)):
        seen |= plant_everywhere(cases(), number, True) | plant_everywhere(cases(), number, False)
    found = {trace for _, trace in seen}
    assert len({column for column, _ in seen}) > 90
    texts = [kind for kind in KINDS if isinstance(kind.value, str)]
    assert [kind.name for kind in texts if not found & {*kind.traces}] == []


@pytest.mark.long
def test_no_identifier_is_shown_that_one_field_holds() -> None:
    """All other fields say what they should: codes, statuses and ids lead to rows as always."""
    rng, seen = random.Random(17), set[str]()
    chosen = [
        (case, number, path)
        for case in cases()
        for number, body in enumerate(case.events)
        for path in places(body)
        if is_leaf(body, path)
    ]
    for case, number, path in rng.sample(chosen, min(len(chosen), FIELDS)):
        kind = rng.choice(KINDS)
        events = copy.deepcopy([*case.events[: number + 1]])
        plant(events[number], path, kind, True)
        found = [*resources_of(case, events)]
        assert traces_in(rows_of(catalog_of(), found)) == set(), f"{case.name}: {kind.name} in {path}"
        seen |= {column for column, _ in traces_in(rows_of(WITH, found))}
    assert len(seen) > 20


def test_no_identifier_is_shown_that_all_fields_of_some_payloads_hold() -> None:
    """A short form of the first test."""
    seen = plant_everywhere([case for case in cases() if len(case.events) == 1][::8], 0, True)
    assert len({trace for _, trace in seen}) > 10
