"""A resource as rows of a page: a label and texts per element, with codes, references, and the words without a code.

One walk serves all resource types. A value's data type is recognized by the names of its elements, as FHIR R4 defines
them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from fhirline.config.terminology import norm
from fhirline.mappers.fhir.elements import DATA_ABSENT
from fhirline.mappers.fhir.narrative_rows import ABSENT, BASIS, SHOWN
from fhirline.mappers.results import Element, Resource

NOT_SHOWN = frozenset({"resourceType", "id", "meta", "text", "contained", "implicitRules", "language"})
LAST = ("identifier", "extension")
NOT_CONCEPTS = frozenset({"note", "dosage", "dosageInstruction", "name", "address", "content", "answer", "item"})
"""Elements that may have a text alone, as a CodeableConcept does."""

_CHOICE = re.compile(r"^(value|medication|effective|occurred|occurrence|onset|content|item)[A-Z]\w*$")
"""Names of elements that end with the type of their value."""

Words = Mapping[str, str]
"""Words without a row, normalized → their code table."""


class Item(NamedTuple):
    """A value. ``note``: its code and system, or what else explains it. ``reference``: ``Type/id`` that it points to.

    ``uncoded``: it has words and no code. ``table``: the code table that has no row for them, if one was asked.
    ``path``: that of the value, as FHIRPath writes it. ``source``: what of the event it came from, if that was found.
    """

    text: str
    note: str = ""
    reference: str = ""
    uncoded: bool = False
    table: str = ""
    path: str = ""
    source: str = ""


class Row(NamedTuple):
    """The values of an element, under the names of the elements down to it."""

    label: str
    items: list[Item]


def title(resource: Resource) -> str:
    """Name a resource's type in plain words."""
    shown = SHOWN.get(resource["resourceType"])
    return shown[0].label if shown else _words(resource["resourceType"])


def rows(resource: Resource, words: Words) -> list[Row]:
    """Make a resource's rows, in the order of its elements; identifiers and extensions come last.

    >>> rows({"resourceType": "Slot", "status": "busy", "period": {"start": "2024"}}, {})[1].items[0].text
    'from 2024'
    """
    names = sorted((name for name in resource if name not in NOT_SHOWN), key=lambda name: name in LAST)
    return [row for name in names for row in _element(resource, name, "", words, resource["resourceType"])]


def with_sources(shown: list[Row], leaves: Mapping[str, Sequence[str]]) -> list[Row]:
    """Give each value its sources in the event. ``leaves``: path of a leaf of the resource → its sources.

    >>> code = Row("Code", [Item("Cough", path="Condition.code")])
    >>> with_sources([code], {"Condition.code.text": ["/a", "/b"], "Condition.codes": ["/c"]})[0].items[0].source
    '/a, /b'
    """
    return [Row(row.label, [item._replace(source=_source(item.path, leaves)) for item in row.items]) for row in shown]


def _source(path: str, leaves: Mapping[str, Sequence[str]]) -> str:
    below = f"{path}.", f"{path}["
    found = (sources for leaf, sources in leaves.items() if leaf == path or leaf.startswith(below))
    return ", ".join(dict.fromkeys(source for sources in found for source in sources))


def _element(parent: Element, name: str, above: str, words: Words, path: str) -> Iterator[Row]:
    """Yield the rows of one element, or of those below it where it has no text of its own. ``path``: the parent's."""
    if name.startswith("_") and name[1:] in parent:
        return  # shown beside the value
    label = " · ".join(filter(None, (above, _words(name.removeprefix("_")))))
    value = parent[name]
    values = value if isinstance(value, list) else [value]
    companion = parent.get(f"_{name}")
    beside = companion if isinstance(companion, list) else [companion]  # a primitive value's extensions, one for each
    items = []
    for number, (each, extensions) in enumerate(zip_longest(values, beside), 1):
        at = f"{path}.{name}[{number - 1}]" if isinstance(value, list) else f"{path}.{name}"
        if each is None:  # in a list of which this item has extensions alone, or nothing
            if (absent := _with_notes(Item("", path=at), extensions)).note:
                items.append(absent)
            continue
        if name == "extension":
            yield from _extension(each, above, words, at)
        elif (item := _item(name, each, words)) is not None:
            items.append(_with_notes(item, extensions)._replace(path=at))
        else:
            numbered = f"{label} {number}" if len(values) > 1 else label
            for inner in each:
                yield from _element(each, inner, numbered, words, at)
    if items:
        yield Row(label, items)


def _extension(extension: Any, above: str, words: Words, path: str) -> Iterator[Row]:
    """Yield the row of an extension: its value, or those of its parts. ``path``: its own."""
    if extension["url"] == DATA_ABSENT:
        yield Row(f"{above} · absent" if above else "Absent", [Item(_absent(extension), path=path)])
        return
    label = _words(extension["url"].rpartition("/")[2].replace("-", " "))
    where = f"{above} · {label}" if above else label
    for name in extension:
        if name == "extension":
            for number, part in enumerate(extension["extension"]):
                yield from _extension(part, where, words, f"{path}.extension[{number}]")
        elif name.startswith("value"):
            for row in _element(extension, name, "", words, path):
                yield row._replace(label=where)


def _item(name: str, value: Any, words: Words) -> Item | None:
    """Make the text of a value; None for one that only has elements below it."""
    if not isinstance(value, dict):
        return Item(_plain(value))
    if set(value) == {"extension"}:  # what a primitive value has beside it, where there is no value
        absent = [_absent(extension) for extension in value["extension"] if extension["url"] == DATA_ABSENT]
        return Item("; ".join(absent)) if absent else None
    parts = {part for part in value if part not in ("id", "extension") and not part.startswith("_")}
    for read, needed, allowed in _TYPES:
        if read is _coding and isinstance(value.get("code"), dict):  # such as a Timing's
            continue
        if parts & needed and parts <= allowed and not (read is _concept and name in NOT_CONCEPTS):
            return read(value, words)
    return None


def _concept(value: Element, words: Words) -> Item:
    codings = value.get("coding", [])
    text = value.get("text") or next((coding["display"] for coding in codings if "display" in coding), "")
    note = "; ".join(_code(coding, text) for coding in codings if "code" in coding)
    if not note and text:
        return Item(text, "", "", True, words.get(norm(text), ""))
    return Item(text or note, note if text else "")


def _coding(value: Element, _: Words) -> Item:
    display = value.get("display", "")
    return Item(display or value.get("code", ""), _code(value) if display else value.get("system", ""))


def _reference(value: Element, _: Words) -> Item:
    target = value.get("reference", "")
    identifier = value.get("identifier", {})
    text = value.get("display") or target or f"{value.get('type', '')} {identifier.get('value', '')}".strip()
    local = re.fullmatch(r"[A-Za-z]+/[A-Za-z0-9.-]{1,64}", target)
    names = (identifier.get("value", ""), identifier.get("system", ""), "" if local else target)
    return Item(text, " ".join(name for name in names if name and name not in text), target if local else "")


def _quantity(value: Element, words: Words) -> Item:
    unit = value.get("unit") or value.get("code", "")
    text = " ".join(filter(None, (value.get("comparator", ""), _plain(value.get("value", "")), unit)))
    table = "" if "code" in value else words.get(norm(unit), "")
    return Item(text, _code(value) if "code" in value else "", "", bool(table), table)


def _period(value: Element, _: Words) -> Item:
    times = [f"{word} {value[name]}" for name, word in (("start", "from"), ("end", "to")) if name in value]
    return Item(" ".join(times))


def _identifier(value: Element, _: Words) -> Item:
    kind = _concept(value.get("type", {}), {})
    names = (kind.text, kind.note, value.get("use", ""), value.get("system", ""))
    return Item(_plain(value["value"]), " ".join(filter(None, names)))


def _name(value: Element, _: Words) -> Item:
    given = [*value.get("prefix", ()), *value.get("given", ())]
    return Item(value.get("text") or " ".join([*given, value.get("family", "")]).strip(), value.get("use", ""))


def _annotation(value: Element, _: Words) -> Item:
    return Item(value["text"], " ".join(filter(None, (value.get("time", ""), value.get("authorString", "")))))


def _repeat(value: Element, _: Words) -> Item:
    often = f"{value['frequency']} × " if "frequency" in value else ""
    return Item(f"{often}per {value.get('period', 1)} {value.get('periodUnit', '')}".strip())


def _narrative(value: Element, _: Words) -> Item:
    """Read a narrative's words: markup is left out, and what it escapes is text again."""
    text = re.sub(r"<[^>]*>", " ", value["div"])
    for escaped, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&amp;", "&")):
        text = text.replace(escaped, sign)
    return Item(" ".join(text.split()))


_Read = Callable[[Element, Words], Item]
_TYPES: tuple[tuple[_Read, frozenset[str], frozenset[str]], ...] = tuple(
    (read, frozenset(needed.split()), frozenset(f"{needed} {others}".split()))
    for read, needed, others in (
        (_concept, "coding text", ""),
        (_annotation, "text", "time authorString authorReference"),
        (_reference, "reference", "display type identifier"),
        (_reference, "display", "type identifier"),
        (_reference, "identifier", "type"),
        (_period, "start end", ""),
        (_narrative, "div", "status"),
        (_name, "family given", "prefix suffix use text period"),
        (_name, "text", "use period"),
        (_repeat, "period periodUnit", "frequency"),
        (_quantity, "unit comparator", "value code system"),
        (_identifier, "value", "system use type period rank assigner"),
        (_quantity, "value", "code system"),
        (_coding, "code", "system display version userSelected"),
    )
)
"""Per data type: its reader, names of which it has at least one, and all its names. The first one that fits is used."""


def _with_notes(item: Item, beside: Any) -> Item:
    """Add notes from the extensions beside a primitive value: why it is absent, its basis, its time zone."""
    notes = [item.note] if item.note else []
    for extension in beside.get("extension", ()) if isinstance(beside, dict) else ():
        if extension["url"] == DATA_ABSENT:
            notes.append(_absent(extension))
        elif extension["url"].endswith("/value-basis"):
            notes.append(BASIS.get(extension["valueCode"], extension["valueCode"]))
        elif extension["url"].endswith("/tz-code"):
            notes.append(extension["valueCode"])
    return item._replace(note="; ".join(notes))


def _absent(extension: Element) -> str:
    code = str(extension.get("valueCode", ""))
    return ABSENT.get(code, code)


def _code(value: Element, text: str = "") -> str:
    """Return code, display unless it repeats ``text`` (or there is none), and system."""
    display = value.get("display", "") if text and value.get("display") != text else ""
    return " ".join(filter(None, (value.get("code", ""), display, value.get("system", ""))))


def _plain(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _words(name: str) -> str:
    """Write an element's name as words.

    >>> _words("dosageInstruction"), _words("MedicationRequest"), _words("effectiveDateTime")
    ('Dosage instruction', 'Medication request', 'Effective')
    """
    name = _CHOICE.sub(r"\1", name)
    return re.sub(r"(?<=[a-z])([A-Z])", r" \1", name).capitalize()
