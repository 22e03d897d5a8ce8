"""Secrets whose key is itself a value: members ``name`` and ``value`` of an object, a pair, a label in a text (§7)."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fhirline.config.tables import secrets
from fhirline.mappers.pipeline.secret_keys import LONGEST_CACHED, treatment

REDACTED = "[redacted]"

_LABELS = ("name", "key", "k", "label", "field", "attribute", "property", "parameter", "header", "title", "code", "id")
_VALUES = ("value", "val", "v", "values", "content", "text", "data", "answer", "default", "valueString", "stringValue")
_CASED_LABELS = frozenset({*_LABELS, *(name.capitalize() for name in _LABELS)})
_CASED_VALUES = frozenset({*_VALUES, *(name.capitalize() for name in _VALUES)})

_NAME = re.compile(r"[^:=>,;\n]{1,60}")
_BETWEEN = r"(?:[^\S\n]|[_.\-]|&#0*95;|%5f)?"
_TO_VALUE = (
    r"""(?:["'\]]?\s{0,4}(?::\s{0,4}[=:]?|=>?|->|→|،|,)|\t|(?:>|&gt;)|["']?;s:\d{1,6}:)"""
    r"""(?![\s"'(\[]{0,4}redacted\])[\s"'(\[]{0,4}"""
)


def labelled_values(value: Mapping[str, Any], names_secret: Callable[[str], bool] | None = None) -> tuple[str, ...]:
    """Return the members of an object that have a secret value, since another member names it.

    ``names_secret`` decides whether a text is the name of a secret; by default, whether a key so named is redacted.

    >>> labelled_values({"name": "Pass code", "type": "text", "value": "1234"})
    ('value',)
    >>> labelled_values({"name": "Ibuprofen", "value": "400 mg"})
    ()
    """
    if _CASED_VALUES.isdisjoint(value):
        return ("1",) if len(value) == 2 and "1" in value and is_pair((value.get("0"), value["1"])) else ()
    for label in _CASED_LABELS.intersection(value):
        name = value[label]
        if name.__class__ is str and len(name) <= LONGEST_CACHED and (names_secret or _known_label)(name):
            return tuple(key for key in value if key in _CASED_VALUES)
    return ()


def is_pair(value: Sequence[Any]) -> bool:
    """Return whether a list is the name of a secret and its value.

    >>> is_pair(["pass_code", "1234"]), is_pair(["fever", "cough"])
    (True, False)
    """
    name = value[0] if len(value) == 2 else None
    return name.__class__ is str and len(name) <= LONGEST_CACHED and _known_label(name)


@lru_cache(maxsize=4096)
def _known_label(name: str) -> bool:
    """Tell whether a text is the name of a secret. A name of one word, as ``dispense``, is a word of a record too."""
    words = name.strip()
    if not _NAME.fullmatch(words):
        return False
    return treatment(words).redacted and not (words.isalpha() and words in (words.lower(), words.capitalize()))


@lru_cache(maxsize=1)
def _label() -> re.Pattern[str]:
    """Return the pattern of a label and of the value behind it: one word that has a digit, or is long."""
    names = []
    for name in secrets().redacted_within:
        words = [re.escape(word) for word in name.split("_")]
        names.append(_BETWEEN.join(words))
    return re.compile(
        rf"(?i:(?<![a-z])((?:{'|'.join(names)})s?{_TO_VALUE}))"
        r"""((?=[^\s"'<>,;]{0,200}\d|[^\s"'<>,;]{12})[^\s"'<>,;]+)"""
    )


def label_pattern() -> str:
    """Return a pattern (of `finder`) of the name that is in every text with a label of a secret.

    Where case is ignored, i, ı and İ are one letter for Python, but not for `finder`.
    """
    names = [name.replace("i", "[iıİ]").split("_") for name in secrets().redacted_within]
    return rf"(?i:{'|'.join('(?:[^a-z0-9]{0,2}|&#0*95;|%5f)'.join(words) for words in names)})"


def without_labelled(text: str) -> str:
    """Return a text with the value behind each label of a secret redacted; the same text where there is none.

    >>> without_labelled("Your pass code: 5528, valid today")
    'Your pass code: [redacted], valid today'
    >>> without_labelled("Pass code: ask the pharmacy. Code: 4")
    'Pass code: ask the pharmacy. Code: 4'
    """
    return _label().sub(lambda found: found[1] + REDACTED, text)
