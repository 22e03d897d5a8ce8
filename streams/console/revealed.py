"""Read what an event's page shows after a reason was given: payload, resources, and words without a code."""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from fhirline.config.errors import ConfigurationError
from fhirline.config.terminology import norm
from fhirline.mappers.pipeline.envelope import UnreadableBody
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.limits import TooComplex
from fhirline.mappers.pipeline.normalize import InMemoryState
from fhirline.streams.console.console import Console
from fhirline.streams.console.element_rows import Row, rows, title, with_sources
from fhirline.streams.console.event_delivery import TableRows, rows_of
from fhirline.streams.console.event_state import state_changes
from fhirline.streams.console.index_entries import IndexedEvent
from fhirline.streams.console.json_lines import Line, json_lines, resource_lines
from fhirline.streams.console.lookup import Lookup
from fhirline.streams.console.time_limit import SOURCES_GIVEN_UP, SOURCES_SECONDS, TookTooLong, time_limit
from fhirline.streams.console.tried_tables import word_at
from fhirline.streams.kafka import headers
from fhirline.streams.kafka.headers import header
from fhirline.streams.kafka.records import ConsumerRecord
from fhirline.streams.step4_normalize.raw_event import envelope_of


class ShownResource(NamedTuple):
    """A resource. ``own``: it is the event's, and no other event shares it."""

    name: str
    title: str
    own: bool
    rows: list[Row]
    lines: list[Line]
    tables: list[TableRows]


class MissingWord(NamedTuple):
    """A word that no row of a table has. ``resources``: those that have the word, and no code for it.

    ``word`` is empty where the value that was looked up is not a short text of the payload.
    """

    word: str
    table: str
    pointer: str
    resources: list[str]


def revealed_event(
    lookup: Lookup, console: Console, event: IndexedEvent, raw: ConsumerRecord, waited_for: Callable[[], bool] | None
) -> dict[str, Any]:
    """Read the payload, the Bundle's resources and, if asked for, the source of each element, and the state.

    ``waited_for``: None does without sources; else it tells whether somebody still waits for them.
    """
    found: dict[tuple[str, str], str] = {}
    leaves: dict[str, dict[str, tuple[str, ...]]] = {}
    state, given_up = None, ""
    if waited_for is not None:
        try:
            explained = lookup.explained(raw, time_limit(SOURCES_SECONDS, waited_for))
            for leaf in explained.lineage:
                found[leaf.resource, leaf.path] = leaf.source
                leaves.setdefault(leaf.resource, {})[leaf.path] = leaf.sources + leaf.given
            state = state_changes(explained)
        except (UnreadableBody, TooComplex):
            pass
        except TookTooLong:
            given_up = SOURCES_GIVEN_UP
    try:
        payload = json_lines(orjson.loads(raw.value or b"null"))
        text = ""
    except orjson.JSONDecodeError:
        payload, text = [], (raw.value or b"").decode("utf-8", "backslashreplace")
    missing = _missing(console, raw)
    words = {norm(word): table for word, table, _ in missing if word}
    bundle = lookup.value(event.bundle)
    by_name = {
        f"{resource['resourceType']}/{resource.get('id', '')}": resource
        for entry in (bundle or {}).get("entry", ())
        if (resource := entry.get("resource"))
    }
    resources = [
        ShownResource(
            name,
            title(by_name[name]),
            own,
            with_sources(rows(by_name[name], words), leaves.get(name, {})),
            lines,
            _tables(console, by_name[name]),
        )
        for name, own, lines in resource_lines(bundle, found)
    ]
    return {
        "payload": payload,
        "text": text,
        "resources": resources,
        "sources": waited_for is not None and not given_up,
        "given_up": given_up,
        "state": state,
        "words": [MissingWord(*word, _with_word(resources, word[0], word[1])) for word in missing],
        "body": (raw.value or b"").decode("utf-8", "replace"),
        "received": header(raw.headers, headers.RECEIVED_AT) or "",
        "route_event": header(raw.headers, headers.EVENT_TYPE) or "",
    }


def _tables(console: Console, resource: dict[str, Any]) -> list[TableRows]:
    try:
        return rows_of(console.settings, resource)
    except ConfigurationError:  # the page names it for all tables
        return []


def _missing(console: Console, raw: ConsumerRecord) -> list[tuple[str, str, str]]:
    """List word, table and pointer of what has no row in today's tables."""
    normalize = build_normalizer(console.settings.model_copy(update={"validation": "off"}))
    try:
        envelope = envelope_of(raw)
        unmapped = normalize(envelope, InMemoryState()).unmapped_at
    except (UnreadableBody, TooComplex):
        return []
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for table, pointer in unmapped:
        word = word_at(envelope.body, pointer)
        if word is None or normalize.terminology.row(table, word) is not None:
            word = ""
        found.setdefault((table, norm(word) or pointer), (word, table, pointer))
    return list(found.values())


def _with_word(resources: list[ShownResource], word: str, table: str) -> list[str]:
    return [
        shown.name
        for shown in resources
        if word
        and any(item.table == table and norm(word) in norm(item.text) for row in shown.rows for item in row.items)
    ]
