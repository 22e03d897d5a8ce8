"""The state that an event found and left (state.md), as rows of its page."""

from typing import Any, NamedTuple

import orjson

from fhirline.mappers.results import Entry
from fhirline.streams.operate.trace.explain import Explained

SHARED = "Practitioner/"
"""Subjects that events of many patients write to. The earlier events of one key do not give their state."""
MOST_CHARACTERS = 2_000
MOST_ENTRIES = 200


class EntryChange(NamedTuple):
    """A state entry: its value before and after the event, as JSON, each with the time of the event that wrote it.

    The values are cut to `MOST_CHARACTERS`. ``kind``: what became of the entry, in words.
    """

    subject: str
    name: str
    before: str
    before_at: str
    after: str
    after_at: str
    kind: str


def state_changes(explained: Explained) -> dict[str, Any]:
    """Return what an event wrote to the state of its subjects.

    ``unchanged``: entries of the same subjects that it left as they were. ``shared``: subjects that are left out.
    """
    changes = []
    subjects = {update.subject for update in explained.updates}
    unchanged = sum(len(explained.before(subject)) for subject in subjects if not subject.startswith(SHARED))
    for update in explained.updates:
        if update.subject.startswith(SHARED):
            continue
        known = explained.before(update.subject).get(update.name)
        unchanged -= known is not None
        after = None if update.deleted else update.entry
        kind = _kind(known, after)
        changes.append(EntryChange(update.subject, update.name, *_shown(known), *_shown(after), kind))
    changes.sort()
    return {
        "changes": changes[:MOST_ENTRIES],
        "more": max(0, len(changes) - MOST_ENTRIES),
        "unchanged": unchanged,
        "earlier": explained.earlier,
        "shared": sorted(subject for subject in subjects if subject.startswith(SHARED)),
    }


def _kind(before: Entry | None, after: Entry | None) -> str:
    if after is None:
        return "removed"
    if before is None:
        return "new"
    return "changed" if before.value != after.value else "the same again"


def _shown(entry: Entry | None) -> tuple[str, str]:
    if entry is None:
        return "", ""
    text = orjson.dumps(entry.value, option=orjson.OPT_INDENT_2).decode()
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"
    return text, entry.version.at
