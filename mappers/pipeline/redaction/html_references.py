"""HTML's character references in texts, resolved in time that is linear in the text (mapping.md §7)."""

import html
import re
from functools import cache, lru_cache
from html.entities import html5

_CODE = r"#[0-9]+;?|#[xX][0-9a-fA-F]+;?"
_MOST_DIGITS = 7
"""Digits of the largest number that a character may have (1114111). Python reads no number of some thousand digits."""
_NAMED = r"[^\t\n\f <&#;]{1,32};"


def without_references(text: str) -> str:
    r"""Return a text without one level of HTML's character references; as `html.unescape`.

    `html.unescape` takes microseconds for each ``&``: it looks for a name in the text behind, character by character.

    >>> without_references("a &lt; b &amp;amp; &#99;&notit; &x=1&copy=2")
    'a < b &amp; c¬it; &x=1©=2'
    >>> without_references(f"&#{'0' * 9_000}65;&#{'9' * 9_000};")
    'A\ufffd'
    """
    return _reference().sub(_resolved, text) if "&" in text else text


def _resolved(found: re.Match[str]) -> str:
    name = found[1]
    if name[0] == "#":
        if len(name) <= _MOST_DIGITS:
            return _of_number(name)
        base = name[:2] if name[1] in "xX" else "#"
        digits = name[len(base) :].rstrip(";").lstrip("0") or "0"
        return _of_number(f"{base}{digits};") if len(digits) <= _MOST_DIGITS else "\ufffd"
    if name in html5:
        return html5[name]
    if begun := _without_semicolon().match(name):
        return html5[begun[0]] + name[begun.end() :]
    return found[0]


@lru_cache(maxsize=4096)
def _of_number(name: str) -> str:
    return html.unescape(f"&{name}")


@cache
def _reference() -> re.Pattern[str]:
    return re.compile(rf"&({_CODE}|{_NAMED}|{_without_semicolon().pattern})")


@cache
def _without_semicolon() -> re.Pattern[str]:
    """Return a pattern of the names that end without a semicolon, the longest one that is there."""
    found: dict[str, list[str]] = {}
    for name in sorted((name for name in html5 if name[-1] != ";"), key=len, reverse=True):
        found.setdefault(name[0], []).append(name[1:])
    return re.compile("|".join(f"{first}(?:{'|'.join(ends)})" for first, ends in found.items()))
