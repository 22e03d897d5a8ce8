"""The state that an event found and left (state.md), as rows of its page."""

from typing import Any, NamedTuple

import orjson

from fhirline.mappers.results import Entry
from fhirline.streams.operate.trace.explain import Explained

SHARED = "Practitioner/"
"""Subjects whose state is of the events of many patients: those of one key do not tell it."""
MOST_CHARACTERS = 2_000
MOST_ENTRIES = 200


class EntryChange(NamedTuple):
    """A state entry: its value before and after the event, as JSON, each with the time of the event that wrote it.

    ``kind``: what became of it, in words.
    """

    subject: str
    name: str
    before: str
    before_at: str
    after: str
    after_at: str

    @property
    def kind(self) -> str:
        if not self.after:
            return "removed"
        if not self.before:
            return "new"
        return "changed" if self.before != self.after else "the same again"


def state_changes(explained: Explained) -> dict[str, Any]:
    """Tell what an event wrote to the state of its subjects.

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
        changes.append(EntryChange(update.subject, update.name, *_shown(known), *_shown(after)))
    changes.sort()
    return {
        "changes": changes[:MOST_ENTRIES],
        "more": max(0, len(changes) - MOST_ENTRIES),
        "unchanged": unchanged,
        "earlier": explained.earlier,
        "shared": sorted(subject for subject in subjects if subject.startswith(SHARED)),
    }


def _shown(entry: Entry | None) -> tuple[str, str]:
    if entry is None:
        return "", ""
    text = orjson.dumps(entry.value, option=orjson.OPT_INDENT_2).decode()
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"
    return text, entry.version.at
