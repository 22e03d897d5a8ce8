"""Redaction below the name of a secret in a text that is indented as YAML is (mapping.md §7)."""

import re
from collections.abc import Callable
from functools import lru_cache

from fhirline.config.tables import secrets
from fhirline.mappers.pipeline.secret_keys import REDACTED, comparable, words_of
from fhirline.mappers.pipeline.secret_labels import name_pattern

_MARK = r"[-*•?][ \t]+"
_LINE = re.compile(
    rf"([ \t]*)((?:{_MARK}){{0,3}})([\"']?[^\s:\"'\[{{][^:\n]{{0,60}}:(?=[ \t\r\n]|$)[ \t]*)?"
    r"([^\n]*?)[ \t\r]*(?:\n|$)"
)
"""A line: its indentation, the marks of list items, a name with its colon, and a value."""
_SCALAR = re.compile(r"[|>][-+\d]{0,2}(?:\s+#.*)?|[{\[]")
"""Matches what stands in place of a value whose lines follow."""
_LIKE_A_SECRET = re.compile(r"(?=\S*\d)\S+|\S{12,}")
_OF_A_CAPABILITY = frozenset({"url", "link", "href", "code", "pin", "token", "key"})

Hides = Callable[[str, str], bool]
"""Tells of a line below a name, by its own name and its value, whether the value is a secret."""


def without_blocks(text: str) -> str:
    r"""Return a text without the values that are indented below the name of a secret; the same where there is none.

    >>> without_blocks("pass_code:\n  - at: noon\n    value: abc\ndose: 2")
    'pass_code:\n  - at: [redacted]\n    value: [redacted]\ndose: 2'
    """
    if "\n" not in text and "{" not in text and "[" not in text:
        return text
    made: list[str] = []
    at = 0
    while found := _head().search(text, at):
        value = found["value"].strip()
        made.append(text[at : found.start("value")])
        at = found.end("value")
        if found["named"] and value[:1] in ("[", "{") and len(value) > 1 and not value.startswith(REDACTED):
            made.append(REDACTED)
        else:
            made.append(found["value"])
        at = _below(text, at, len(found["marks"]), _rule(found, value), made)
    return "".join([*made, text[at:]]) if made else text


def _rule(found: re.Match[str], value: str) -> Hides:
    """Return which values below a name are secret: all, or of a name of words those that look like one."""
    if name := found["split"]:
        rests = _split_names()[comparable(name)]
        return lambda inner, _: comparable(inner).startswith(rests)
    if found["parent"]:
        return lambda inner, text: comparable(inner) in _OF_A_CAPABILITY or "://" in text
    if value and not _SCALAR.fullmatch(value):
        return lambda inner, text: not inner and _LIKE_A_SECRET.fullmatch(text) is not None
    if value or " " not in found["named"]:
        return lambda _, text: True
    return lambda _, text: _LIKE_A_SECRET.fullmatch(text) is not None


def _below(text: str, at: int, column: int, hides: Hides, made: list[str]) -> int:
    """Append the lines that are indented below a name in ``column``; return where they end."""
    if text[at : at + 1] == "\r":
        made.append("\r")
        at += 1
    if text[at : at + 1] != "\n":
        return at
    made.append("\n")
    at += 1
    hidden: int | None = None
    while at < len(text) and (line := _LINE.match(text, at)):
        space, marks, name, value = len(line[1]), line[2], line[3] or "", line[4]
        if (value or name or marks) and not (space > column or (marks and space >= column)):
            break
        own = space + len(marks)
        if hidden is not None and own <= hidden and (value or name):
            hidden = None
        secret = hidden is not None or hides(name.strip(" \t\"':"), value)
        if secret and name and (not value or _SCALAR.fullmatch(value)):
            hidden = own
        if secret and value and not _SCALAR.fullmatch(value) and value not in (REDACTED, "]", "}"):
            made += [text[at : line.start(4)], REDACTED, text[line.end(4) : line.end()]]
        else:
            made.append(line[0])
        at = line.end()
    return at


@lru_cache(maxsize=1)
def _head() -> re.Pattern[str]:
    """Return the pattern of a line with the name of a secret, or of what has one below it, and a colon."""
    words = [words_of(name) for name in secrets().redacted]
    parents = "|".join(name[0] for name in words if len(name) == 1)
    split = "|".join(sorted(_split_names(), key=len, reverse=True))
    return re.compile(
        rf"^(?P<marks>[ \t]*(?:{_MARK}){{0,3}})[\"']?(?i:(?P<named>[\w.-]{{0,40}}?{name_pattern()}[\w.-]{{0,20}})"
        rf"|(?P<parent>{parents})|(?P<split>{split}))[\"']?[ \t]*[:：][ \t]*(?:[&!][\w!:.-]{{0,40}}[ \t]*){{0,2}}"
        r"(?P<value>[^\n\r]*)",
        re.MULTILINE,
    )


@lru_cache(maxsize=1)
def _split_names() -> dict[str, tuple[str, ...]]:
    """Return the names that are split over two levels: how they begin, as `comparable`, and how they go on."""
    found: dict[str, tuple[str, ...]] = {}
    for words in map(words_of, secrets().redacted_within):
        for place in range(1, len(words)):
            begin = "".join(words[:place])
            found[begin] = (*found.get(begin, ()), "".join(words[place:]))
    return found
