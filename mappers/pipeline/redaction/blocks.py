"""Redaction of values that are indented below the name of a secret, or in brackets after it, as YAML has them (§7)."""

import re
from functools import lru_cache
from itertools import islice, pairwise
from typing import NamedTuple

from fhirline.mappers.pipeline.redaction.block_names import (
    MARK,
    ending_finder,
    ending_pattern,
    head_pattern,
    opening_finder,
    opening_pattern,
    split_names,
)
from fhirline.mappers.pipeline.redaction.keys import (
    REDACTED,
    comparable,
    redacted_below,
    treatment,
    words_of,
)

_LINE = re.compile(
    rf"([ \t]*)((?:{MARK}){{0,3}})([\"']?[^\s:\"'\[{{][^:\n]{{0,60}}:(?=[ \t\r\n]|$)[ \t]*)?([^\n]*)(?:\n|$)"
)
"""A line: its indentation, the marks of list items, a name with its colon, and a value."""
_BLANK = re.compile(r"(?:[ \t]*+\r?\n)+")
_MOST_LINES = 100_000
"""Lines below names of secrets in a text that are read. The text behind them is redacted."""
_SCALAR = re.compile(r"[|>][-+\d]{0,2}(?:\s+#.*)?|[{\[]")
"""Matches YAML's mark of a value whose lines follow (``|``, ``>``, ``{``, ``[``)."""
_LIKE_A_SECRET = re.compile(r"(?=\S*\d)\S+|\S{12,}")
_ADDRESS = re.compile(r"[\"'<]?[^\s:]{1,20}://\S+")
_INNER_NAME = re.compile(r"([\w.-]{1,60})[\"'\]]{0,2}\s{0,4}(?:[:=]|=>)")
_BRACKET = re.compile(r"[()\[\]{}]")
_OPEN = re.compile(r"[(\[{]")
_SIGN = re.compile(r"[\n(\[{]|://")
_MOST_BRACKETED = 4_000
"""Characters of a value in brackets that are searched for its end. A longer value is taken to end there."""
_MOST_NAMES = 1_000
"""Names of secrets in a text that are read. The text behind them is redacted."""
_OF_A_CAPABILITY = frozenset({"url", "link", "href", "code", "pin", "token", "key"})
_NOTHING: frozenset[str] = frozenset()


class _Level(NamedTuple):
    """The values that are redacted below a name."""

    column: int
    everything: bool = False
    like_secrets: bool = False
    """Only values that look like a secret are redacted, since the name may be the heading of a paragraph."""
    capability: bool = False
    names: frozenset[str] = _NOTHING
    """The names (`comparable`) whose values are redacted."""
    addresses: bool = False
    """Addresses right below, in place of an object that has one."""
    begun: str = ""
    """The first words of a name, which those of the next level may complete."""
    continued: bool = False
    """The value is beside the name, and further lines of it may follow."""

    def hides(self, name: str, value: str) -> bool:
        """Return whether the value of a line below the name is a secret."""
        if self.everything:
            return True
        if (self.like_secrets or (self.continued and not name)) and _LIKE_A_SECRET.fullmatch(value):
            return True
        if self.capability and (comparable(name) in _OF_A_CAPABILITY or "://" in value):
            return True
        if self.names and name and not treatment(name).names.isdisjoint(self.names):
            return True
        if self.addresses and not name and _ADDRESS.fullmatch(value):
            return True
        return bool(self.begun and name) and _completes(name, split_names()[self.begun])

    def below(self, name: str, column: int) -> "_Level":
        """Return the level below a line with a name."""
        begun = self.begun + comparable(name) if self.begun else ""
        return self.inside(column, begun if begun in split_names() else "")

    def inside(self, column: int, begun: str = "") -> "_Level":
        """Return the level below this one, at any depth."""
        return _Level(column, self.everything, self.like_secrets, self.capability, self.names, begun=begun)


@lru_cache(maxsize=4096)
def _completes(name: str, ends: tuple[str, ...]) -> bool:
    """Return whether a name is one of the ends of a split name, or has it as its first words.

    >>> _completes("codes", ("code",)), _completes("Code value", ("code",)), _completes("codeine", ("code",))
    (True, True, False)
    """
    words = words_of(name)
    begun = {comparable(name), *("".join(words[:place]) for place in range(1, len(words) + 1))}
    return any(end in begun or f"{end}s" in begun for end in ends)


def without_blocks(text: str, below: frozenset[str] = _NOTHING) -> str:
    r"""Return a text without the values that are indented below the name of a secret; the same where there is none.

    ``below``: the names (`comparable`) that are redacted because of the key of the text.

    >>> without_blocks("pass_code:\n  - at: noon\n    value: abc\ndose: 2")
    'pass_code:\n  - at: [redacted]\n    value: [redacted]\ndose: 2'
    >>> without_blocks("chatConfig:\n  size: 2\n  token: abc")
    'chatConfig:\n  size: 2\n  token: [redacted]'
    >>> without_blocks("{ chatConfig: { size: 2, token: abc } }")
    '{ chatConfig: [redacted] }'
    """
    if not below and not _SIGN.search(text.replace(REDACTED, "")):
        return text
    if "\n" not in text or not ending_finder()(text):
        return _without_blocks(text, below)
    starts = [0, *(found.start() for found in islice(ending_pattern().finditer(text), _MOST_NAMES)), len(text)]
    made = "".join(_without_blocks(text[start:end], below) for start, end in pairwise(starts))
    return text if made == text else made


def _without_blocks(text: str, below: frozenset[str]) -> str:
    """Return a text without the values below such a name at the beginning of a line."""
    made: list[str] = []
    levels = [_Level(-1, names=below)]
    at = 0
    heads = head_pattern(below)
    head = heads.search(text)
    left, lines = _MOST_NAMES, _MOST_LINES
    while at < len(text):
        if len(levels) == 1:  # no line before that of the next name needs a look
            if not head:
                break
            made.append(text[at : head.start()])
            at = head.start()
        if blank := _BLANK.match(text, at):
            made.append(blank[0])
            at = blank.end()
            continue
        line = _LINE.match(text, at)
        assert line is not None  # each line matches
        space, marks, name, value = len(line[1]), line[2], (line[3] or "").strip(" \t\"':"), line[4].rstrip(" \t\r")
        column = space + len(marks)
        if value or name or marks:
            while len(levels) > 1 and not (space > levels[-1].column or (marks and space >= levels[-1].column)):
                levels.pop()
        if head and head.start() == at:
            if not (left := left - 1):
                return "".join([*made, REDACTED])
            made += _head_line(text, line, head, levels)
            head = heads.search(text, line.end())
        elif len(levels) == 1:
            continue
        else:
            if not (lines := lines - 1):
                return "".join([*made, REDACTED])
            opens = not value or _SCALAR.fullmatch(value) is not None
            secret = levels[-1].hides(name, value)
            if name:
                levels.append(_Level(column, everything=True) if secret and opens else levels[-1].below(name, column))
            shown = opens or not secret or value in (REDACTED, "]", "}")
            start = line.start(4)
            made += [line[0]] if shown else [text[at:start], REDACTED, text[start + len(value) : line.end()]]
        at = line.end()
    return _without_bracketed("".join([*made, text[at:]]) if made else text)


def _head_line(text: str, line: re.Match[str], head: re.Match[str], levels: list[_Level]) -> list[str]:
    """Return the parts of a line that begins with a name of the table, and append the level below it."""
    value = head["value"].strip()
    outer = levels[-1]
    opens = not value or _SCALAR.fullmatch(value) is not None
    secret = not value.startswith(REDACTED) and (
        bool(head["given"])
        or outer.hides(head["named"] or head["below"] or head["parent"] or head["split"], value)
        or bool(head["named"] and value[:1] in ("[", "{"))
        or bool(head["below"] and _ADDRESS.fullmatch(value))
    )
    levels.append(_level(head, value, outer))
    if secret and opens:
        levels[-1] = levels[-1]._replace(everything=True)
    if opens or not secret:
        return [line[0]]
    start = head.start("value")
    return [text[line.start() : start], REDACTED, text[start + len(head["value"].rstrip()) : line.end()]]


def _level(head: re.Match[str], value: str, outer: _Level) -> _Level:
    """Return the level below a name of the table."""
    level = outer.inside(len(head["marks"]))
    if name := head["below"]:
        names, begun = redacted_below()[comparable(name)], comparable(name)
        begun = begun if begun in split_names() else ""
        opens = not value or _SCALAR.fullmatch(value) is not None  # else the lines below go on with its sentence
        return level._replace(names=level.names | names, addresses=opens, begun=begun)
    if name := head["split"]:
        return level._replace(begun=comparable(name))
    if head["parent"]:
        return level._replace(capability=True)
    if value and not _SCALAR.fullmatch(value):
        return level._replace(continued=True)
    if value or head["given"] or " " not in head["named"]:
        return level._replace(everything=True)
    return level._replace(like_secrets=True)


def _without_bracketed(text: str) -> str:
    """Return a text without the values in brackets behind the name of a secret, or of a parent of secrets."""
    made: list[str] = []
    at = 0
    if not _OPEN.search(text) or not opening_finder()(text.replace(REDACTED, "")):
        return text
    left = _MOST_NAMES
    while found := opening_pattern().search(text, at):
        if not (left := left - 1):
            return "".join([*made, text[at : found.start()], REDACTED])
        end = _closing(text, found.end())
        inside = text[found.end() : end]
        secret = inside != REDACTED and _has_secret(found, inside)
        made += [text[at : found.end()], REDACTED if secret else inside]
        at = end
    return "".join([*made, text[at:]]) if made else text


def _has_secret(found: re.Match[str], inside: str) -> bool:
    """Return whether a value in brackets behind a name of the table has a secret."""
    if found["named"]:
        return inside[0] != "("
    level = _level(found, "", _Level(-1))
    for inner in _INNER_NAME.findall(inside):
        level = level._replace(names=level.names | treatment(inner).below)
        if level.hides(inner, ""):
            return True
    return "://" in inside and bool(found["parent"] or _ADDRESS.fullmatch(inside.strip(" \t\r\n[]{}\"'")))


def _closing(text: str, at: int) -> int:
    """Return where a value in brackets ends."""
    depth = 0
    most = at + _MOST_BRACKETED
    for found in _BRACKET.finditer(text, at, most):
        depth += 1 if found[0] in "([{" else -1
        if depth == 0:
            return found.end()
    return min(most, len(text))
