"""Redaction inside markup (XML, HTML): elements and attributes that are named like a secret (mapping.md §7)."""

import re
from collections.abc import Iterator

from fhirline.mappers.pipeline.redaction.keys import REDACTED, treatment
from fhirline.mappers.pipeline.redaction.labels import is_label, name_of

_TAG = re.compile(r"<([A-Za-z_][\w.:-]{0,100})((?:\s[^<>]{0,2000})?)>")
_ATTRIBUTE = re.compile(r"""([\w.:-]{1,100})\s{0,4}=\s{0,4}(?:"([^"<>]*)"|'([^'<>]*)')""")
_CONTENT = re.compile(r"\s{0,20}(?:<!\[CDATA\[)?\s{0,20}([^<>]{1,60}?)\s{0,20}(?:\]\]>)?\s{0,20}</")
_NEXT = re.compile(r"</[^<>]{1,120}>\s{0,20}<([A-Za-z_][\w.:-]{0,100})(?:\s[^<>]{0,2000})?>")

_MOST_TAGS = 250_000
"""Tags of one text that are read. The text behind them is redacted, because it may name a secret."""


def markup_redacted(text: str, below: frozenset[str], tags: Iterator[int] | None = None) -> str:
    """Return a text without the content of elements named like a secret, and without the value beside such a name.

    An element names the value beside it by an attribute (``<entry key="pass_code" value="1234"/>``) or by its content
    (``<name>pass_code</name><value>1234</value>``). What has no end is redacted to the end of the text. ``tags`` has an
    item for each further tag that is read.

    >>> markup_redacted("<r><pass_code type='a'>1234</pass_code><dose>2</dose></r>", frozenset())
    "<r><pass_code type='a'>[redacted]</pass_code><dose>2</dose></r>"
    """
    if "<" not in text:
        return text
    made: list[str] = []
    at = 0
    ends: dict[str, bool] = {}
    further = True
    tags = iter(range(_MOST_TAGS)) if tags is None else tags
    while found := _TAG.search(text, at):
        if next(tags, None) is None:
            return "".join([*made, text[at : found.start()], REDACTED])
        name, attributes = found[1], found[2]
        local = treatment(name.rpartition(":")[2])
        made.append(text[at : found.start()])
        at = found.end()
        if any(is_label(name_of(value[1], value[2] or value[3])) for value in _ATTRIBUTE.finditer(attributes)):
            # It is unknown which of the other attributes is the value.
            made.append(f"<{name} {REDACTED}{'/' if attributes.endswith('/') else ''}>")
            redacted = not attributes.endswith("/")
        else:
            made.append(found[0])
            redacted = (local.redacted or bool(local.names & below)) and not attributes.endswith("/")
        if redacted:
            at = _append_redacted(text, at, name, made, ends)
        elif local.below - below and not attributes.endswith("/"):  # a nested element of the same name adds none
            end = _end(text, at, name, ends)
            made.append(markup_redacted(text[at:end], below | local.below, tags))
            at = end
        elif further and (content := _CONTENT.match(text, at)) and is_label(content[1]):
            beside = _NEXT.search(text, at)
            further = beside is not None  # without one here there is none further on: search once
            if beside:
                made.append(text[at : beside.end()])
                at = _append_redacted(text, beside.end(), beside[1], made, ends)
    return "".join([*made, text[at:]]) if made else text


def _append_redacted(text: str, at: int, name: str, made: list[str], ends: dict[str, bool]) -> int:
    """Append the redacted content of an element that begins at ``at``; return where it ends."""
    end = _end(text, at, name, ends)
    if text[at:end].strip():
        made.append(REDACTED)
    return end


def _end(text: str, at: int, name: str, ends: dict[str, bool]) -> int:
    """Return where an element's content ends. ``ends``: names of which the text has no further end, to look once."""
    if ends.get(name, True):
        end = text.find(f"</{name}", at)
        if end >= 0:
            return end
        ends[name] = False
    return len(text)
