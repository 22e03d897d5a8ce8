"""The new vendor in the documents: its section of docs/design/mapping.md, and the tables that list vendors.

Each function takes a document's text and returns the changed text, or None where the place for it was not found.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from fhirline.mappers.json_pointer import escape
from fhirline.streams.authoring.inference import Model, ModelField
from fhirline.streams.authoring.package import Event, NewVendor, filled, prose
from fhirline.streams.observe.terminal import counted

MOST_ROWS = 200
"""Rows of an event's table in the specification."""


def next_section(specification: str) -> str | None:
    """Return the number of a new section at the end of the specification."""
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", specification, re.M)]
    return str(max(numbers) + 1) if numbers else None


def specification_with(text: str, vendor: NewVendor, number: str, secrets: Collection[str]) -> str | None:
    """Add the vendor to docs/design/mapping.md: the contents, the kinds of §4.5, and a section of its own.

    ``secrets`` are the paths of values that look like secrets.
    """
    title = f"{number}. {vendor.display}"
    slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    listed = _after_last(text, r"^\| \[\d+\]\(#.+\n", f"| [{number}](#{slug}) | {vendor.display} |\n")
    if listed is not None and any(event.patient for event in vendor.events):
        kind = f"| {vendor.name} | Patient | `patient` | patient | {number} |\n"
        listed = _after_last(listed, r"^\| \w+ \| \w+ \| `[\w-]+` \| .+ \| [\d.]+ \|\n", kind)
    return None if listed is None else listed + _section(vendor, number, secrets)


def _section(vendor: NewVendor, number: str, secrets: Collection[str]) -> str:
    return filled(
        "specification",
        number=number,
        display=vendor.display,
        name=vendor.name,
        event_field=_paths([vendor.event_field]),
        patient_fields=_paths(vendor.patient_fields),
        time_fields=_paths(vendor.time_fields),
        events="".join(
            _event_section(vendor, event, f"{number}.{position}", secrets)
            for position, event in enumerate(vendor.events, 1)
        ),
        cases=", ".join(f"`{vendor.name}/{event.module}`" for event in vendor.events),
    )


def _event_section(vendor: NewVendor, event: Event, number: str, secrets: Collection[str]) -> str:
    outputs = {**dict.fromkeys(secrets, "withheld as a secret"), vendor.event_field: "event type"}
    if event.patient is not None:
        outputs[event.patient] = "Patient: id, `identifier`"
    if event.time is not None:
        outputs[event.time] = "event time"
    rest = "kept on the Provenance" if event.patient else "kept in the raw event"
    sent = {_without_positions(path) for sample in event.samples for path in _sent(sample.body)}
    rows = [
        f"| `{prose(path)}` | {kind} | {outputs.get(path, rest)} |"
        for path, kind in _described(event.model, event)
        if _without_positions(path) in sent  # a model that events share has fields of the others
    ]
    if len(rows) > MOST_ROWS:
        rows[MOST_ROWS:] = [f"| … | | {counted(len(rows) - MOST_ROWS, 'further path')}, {rest} |"]
    return filled("specification_event", number=number, event=event.type, rows="\n".join(rows))


def _described(model: Model, event: Event, pointer: str = "") -> list[tuple[str, str]]:
    """Return the path and the kind of each value of an event that its model reads."""
    found: list[tuple[str, str]] = []
    for field in model.all_fields():
        at = f"{pointer}/{escape(field.key)}{_positions(field)}"
        if field.model is None:
            found.append((at, "date-time" if at == event.time and "text" in field.kind else field.kind))
        else:
            found += _described(field.model, event, at)
    return found


def _sent(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each value of a body, with ``*`` for positions."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _sent(inner, f"{path}/{escape(key)}")
    elif isinstance(value, list):
        for inner in value:
            yield from _sent(inner, f"{path}/*")


def _without_positions(path: str) -> str:
    """Return a path that is the same for a list, an object with numbers for keys, and one item without its list."""
    return "".join(f"/{part}" for part in path.split("/")[1:] if part != "*" and not part.isdigit())


def _positions(field: ModelField) -> str:
    return "/*" * field.type.count("Items[")


def readme_with(text: str, vendor: NewVendor) -> str | None:
    """Add the vendor's events to the README's table of resources, or to the line of events without a mapping."""
    mapped = [event.type for event in vendor.events if event.patient]
    unmapped = [event.type for event in vendor.events if not event.patient]
    changed: str | None = text
    if mapped:
        row = f"| {vendor.name} | {_listed(mapped, ', ')} | Patient |\n"
        rows = [*re.finditer(r"^\| (\w+) \| (`.+`) \| [\w, ]+ \|\n", text, re.M)]
        before = [found for found in rows if found[1] < vendor.name]
        if not rows:
            return None
        at = before[-1].end() if before else rows[0].start()
        changed = text[:at] + row + text[at:]
    if unmapped:
        new, count = re.subn(
            r"^(Events without a mapping \(.+)\)",
            lambda found: f"{found[1]}, {vendor.display}'s {_listed(unmapped, ' and ')})",
            changed or "",
            flags=re.M,
        )
        changed = new if count == 1 else None
    return changed


def settings_with(text: str, vendor: NewVendor) -> str | None:
    """Add the vendor's header to the table of docs/settings.md."""
    table = re.search(r"^\| vendor \| header \|\n\|---\|---\|\n(?:\|.+\|\n)+", text, re.M)
    if table is None:
        return None
    return f"{text[: table.end()]}| {vendor.display} | `{vendor.header}` |\n{text[table.end() :]}"


def _after_last(text: str, row: str, new: str) -> str | None:
    """Insert a line behind the last line that matches."""
    found = [*re.finditer(row, text, re.M)]
    return f"{text[: found[-1].end()]}{new}{text[found[-1].end() :]}" if found else None


def _paths(pointers: Sequence[str]) -> str:
    return ", else ".join(f"`{prose(pointer)}`" for pointer in pointers) or "none"


def _listed(texts: Sequence[str], between: str) -> str:
    return between.join(f"`{text}`" for text in texts)
