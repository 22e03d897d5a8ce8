"""Patterns of the names of secrets whose values are indented below the name or in brackets after it (mapping.md §7)."""

import re
from collections.abc import Callable
from functools import lru_cache

from fhirline.config.tables import secrets
from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.keys import comparable, names_within, words_of
from fhirline.mappers.pipeline.redaction.labels import BETWEEN, name_pattern, spelled

MARK = r"[-*•?][ \t]+"
"""The mark of a list item."""
_AT_END = r"[\"']?[ \t]*[:：][ \t]*(?:[|>][-+0-9]{0,2})?[ \t]*\r?\n"
"""Pattern of what follows a name at the end of a line. The value is on the lines below."""


@lru_cache(maxsize=1)
def _name_forms() -> tuple[str, str, str]:
    """Return patterns of the names of one word, of those that have secrets below them, and of how names begin."""
    parents = "|".join(spelled(name) for name in map(words_of, secrets().redacted) if len(name) == 1)
    below = "|".join(spelled(words_of(name)) for name in secrets().redacted_below)
    begun = {tuple(words[:place]) for words in names_within() for place in range(1, len(words))}
    return parents, below, "|".join(spelled(words) for words in sorted(begun, key=len, reverse=True))


def _names(given: frozenset[str]) -> str:
    """Return a pattern of the names of the table, and of those that are given, each kind as a group."""
    parents, below, split = _name_forms()
    keys = {key for keys in secrets().redacted_below.values() for key in keys if comparable(key) in given}
    further = "|".join(spelled(words_of(key)) for key in sorted(keys)) or "(?!)"
    return (
        rf"(?:(?P<given>{further})(?![\w.-])|(?P<named>[\w.-]{{0,40}}?{name_pattern()}[\w.-]{{0,20}})"
        rf"|(?:[\w.-]{{0,40}}[.])?(?:(?P<below>{below})s?\d{{0,3}}|(?P<parent>{parents}))|(?P<split>{split}))[\"']?"
    )


@lru_cache(maxsize=16)
def head_pattern(given: frozenset[str]) -> re.Pattern[str]:
    """Return the pattern of a line with a colon after the name of a secret, or after a name with secrets below it."""
    return re.compile(
        rf"^(?![ \t\r]*\n)(?P<marks>[ \t]*(?:{MARK}){{0,3}})[\"']?(?i:{_names(given)})[ \t]*[:：][ \t]*"
        r"(?:[&!][\w!:.-]{0,40}[ \t]*){0,2}(?P<value>[^\n\r]*)",
        re.MULTILINE,
    )


@lru_cache(maxsize=1)
def ending_pattern() -> re.Pattern[str]:
    """Return the pattern of the name of a secret behind other words, at the end of a line."""
    return re.compile(rf"(?<=[ \t,;.(])(?<!^)(?i:{name_pattern()}){_AT_END}(?=[ \t]*\S)")


@lru_cache(maxsize=1)
def ending_finder() -> Callable[[str | bytes], bool]:
    """Return a finder that matches every text with such a name."""
    return finder(rf"(?i:{_any_between(name_pattern())}){_AT_END}")


@lru_cache(maxsize=1)
def opening_pattern() -> re.Pattern[str]:
    """Return the pattern of the name of a secret and what is before its value in brackets, anywhere in a text."""
    kinds = r"(?:Array|array\(\d{1,9}\)|[\w\\]{1,60}\sObject|object\([\w\\]{1,60}\)#\d{1,9}\s\(\d{1,9}\))"
    programs = rf"\]?\s{{0,4}}=>\s{{0,40}}(?:{kinds}\s{{1,80}})?(?=[(\[{{])"  # print_r, a hash
    return re.compile(
        rf"(?P<marks>)(?<![\w.-])(?i:{_names(frozenset())})(?:\s{{0,4}}[:=]\s{{0,4}}(?=[\[{{])|(?=[({{])|{programs})"
    )


@lru_cache(maxsize=1)
def opening_finder() -> Callable[[str | bytes], bool]:
    """Return a finder that matches every text with such a name, and the brackets behind it."""
    words = _any_between("|".join((name_pattern(), *_name_forms())))
    space = r"[\s\x00-\x20]*"  # a few more signs are white space for Python
    return finder(rf"(?i:{words})[^\s\[\](){{}}:=\x22']*[\x22']?(?:{space}[:=]{space}[\[{{]|[({{]|\]?{space}=>)")


def _any_between(names: str) -> str:
    """Return a pattern of names with any characters between their words, for a finder.

    `BETWEEN` counts characters beyond ASCII: a finder with it takes 0.5 s to compile. Where case is ignored, i, ı and İ
    are one letter for Python, but not for a finder.
    """
    return names.replace(BETWEEN, r"(?:[^A-Za-z\n]*|%5f)").replace("i", "[iıİ]")


@lru_cache(maxsize=1)
def split_names() -> dict[str, tuple[str, ...]]:
    """Return the names that are split over two levels: how they begin, as `comparable`, and how they go on."""
    found: dict[str, tuple[str, ...]] = {}
    for words in names_within():
        for place in range(1, len(words)):
            begin = "".join(words[:place])
            found[begin] = (*found.get(begin, ()), "".join(words[place:]))
    return found
