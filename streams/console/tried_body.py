"""Map a body for the playground, with the code tables that are tried, and describe the result."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from fhirline.config import tables
from fhirline.config.errors import FhirlineError
from fhirline.config.terminology import load_terminology
from fhirline.config.vendors import SLUG
from fhirline.mappers.instants import Instant
from fhirline.mappers.pipeline.envelope import Envelope, UnreadableBody, open_envelope
from fhirline.mappers.pipeline.factory import build_normalizer
from fhirline.mappers.pipeline.limits import TooComplex
from fhirline.mappers.pipeline.lineage import lineage
from fhirline.mappers.pipeline.normalize import InMemoryState, Normalized, Normalizer
from fhirline.mappers.registry import VENDORS, open_without_receipt
from fhirline.streams.console.console import Console
from fhirline.streams.console.json_lines import resource_lines
from fhirline.streams.console.time_limit import SOURCES_GIVEN_UP, SOURCES_SECONDS, TookTooLong, time_limit
from fhirline.streams.console.tried_tables import (
    terminology_with,
    with_draft,
    word_at,
    words_without_a_row,
)
from fhirline.streams.operate.terminology.missing import Word


class Unmapped(FhirlineError):
    """The body cannot be mapped. The message says why, and repeats nothing of it."""


Form = dict[str, Any]
"""The form's fields; ``tables``: name → text of the code tables that are tried."""


def envelope_in(form: Form) -> Envelope:
    """Read the body. Raises Unmapped."""
    vendor, tenant, event = form["vendor"], form["tenant"], form["event"] or None
    if vendor not in VENDORS:
        raise Unmapped(f"The vendor is none of {', '.join(VENDORS)}.")
    if not re.fullmatch(SLUG, tenant):
        raise Unmapped("The tenant is no slug: lower-case letters, digits and hyphens.")
    received = Instant.parse(form["received"]) if form["received"] else None
    if form["received"] and received is None:
        raise Unmapped("The time of receipt is no RFC 3339 instant, such as 2026-01-31T12:00:00Z.")
    body = form["body"].replace("\r\n", "\n").encode("utf-8", "surrogatepass")
    try:
        if received:
            return open_envelope(vendor, tenant, body, received, event)
        return open_without_receipt(vendor, tenant, body, event)
    except UnreadableBody as error:
        raise Unmapped(f"The body cannot be read: {error} ({error.code}).") from None


class MappedBody(NamedTuple):
    """A mapped body. ``problems``: table → why its rows were not used."""

    envelope: Envelope
    normalizer: Normalizer
    result: Normalized
    problems: dict[str, str]


def normalized(console: Console, form: Form) -> MappedBody:
    """Map the body with the form's code tables. Raises Unmapped."""
    envelope = envelope_in(form)
    terminology, problems = terminology_with(console.settings, form["tables"])
    normalizer = replace(build_normalizer(console.settings), terminology=terminology)
    try:
        return MappedBody(envelope, normalizer, normalizer(envelope, InMemoryState()), problems)
    except TooComplex as error:
        raise Unmapped(f"The event is too complex: {error}.") from None


def mapped(console: Console, form: Form, waited_for: Callable[[], bool]) -> dict[str, Any]:
    """Map the form's body. Return nothing where the browser has cancelled the request, for a newer text."""
    if not waited_for():
        return {}
    try:
        envelope, normalizer, result, problems = normalized(console, form)
    except Unmapped as error:
        return {"problem": str(error)}
    found: dict[tuple[str, str], str] = {}
    given_up = ""
    if "sources" in form:
        try:
            leaves = lineage(normalizer, envelope, InMemoryState(), time_limit(SOURCES_SECONDS, waited_for))
            found = {(leaf.resource, leaf.path): leaf.source for leaf in leaves}
        except TookTooLong:
            given_up = SOURCES_GIVEN_UP
    flags = tables.flags().flags
    at: dict[str, set[str]] = {}
    for flag in result.flags:
        at.setdefault(flag.code, set()).update(flag.at)
    bundle = orjson.loads(result.bundle.value) if result.bundle else {}
    return {
        "problem": "",
        "given_up": given_up,
        "event_type": result.event_type,
        "resources": resource_lines(bundle, found),
        "flags": [(code, flags[code].severity, flags[code].text, sorted(places)) for code, places in at.items()],
        "refusals": [
            (refusal.resource_type, refusal.code, [(problem.path, problem.code) for problem in refusal.problems])
            for refusal in result.refusals
        ],
        "ledger": [(leaf.treatment, leaf.pointer, leaf.rule) for leaf in result.ledger.notable],
        "table_problems": problems,
        "words": words_without_a_row(result.unmapped_at, envelope.body, normalizer.terminology, form["tables"]),
        "drift": result.schema_drift,
    }


def drafted_tables(console: Console, form: Form, draft: str) -> dict[str, str]:
    """Return the form's tables with a row for a word: ``draft`` is its table and pointer."""
    table, _, pointer = draft.partition(" ")
    texts: dict[str, str] = form["tables"]
    try:
        word = word_at(envelope_in(form).body, pointer)
    except Unmapped:
        return texts
    if table not in load_terminology(console.settings.terminology_dir).names or word is None:
        return texts
    return with_draft(console.settings, texts, Word(table, word, 1, 1))
