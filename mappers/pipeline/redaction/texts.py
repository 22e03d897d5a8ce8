"""Redaction of the texts of a body, keys that are texts included (mapping.md §7)."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.blocks import without_blocks
from fhirline.mappers.pipeline.redaction.disguises import undisguised
from fhirline.mappers.pipeline.redaction.embedded_formats import (
    BASE64_MARK,
    MARK,
    has_mark,
    names_secret,
    redacted_text,
    surely_plain,
)
from fhirline.mappers.pipeline.redaction.encodings import encoded_pattern, without_encoded
from fhirline.mappers.pipeline.redaction.keys import IN_NOTES, NO_NAME, REDACTED, treatment
from fhirline.mappers.pipeline.redaction.labels import stem_pattern, without_labelled

_MOST_READ = 20_000
"""Texts of a body that are read for a secret. Behind them one that may name a secret is redacted whole."""
_MOST_CHARACTERS = 2_000_000
"""Characters of these texts, of what they encode and of their undisguised forms, each counted whenever it is read.

Behind them as well one that may name a secret is redacted whole: a text with signs of several encodings is read again
for each, and in each again.
"""
_MOST_ENCODED = 2_000
"""Words of a body that encode the name of a secret and are decoded."""
_LONGEST_REMEMBERED = 200
_ANY_MARK = f'"|{MARK}'
_MAY_HIDE_A_NAME = re.compile(rf'["=]|{BASE64_MARK}')
"""A mark of text that encodes a name in another way than a key does."""
_MAY_HAVE_A_VALUE = re.compile(r"[^\w.\[\]-](?=\S*\d|\S{12})")
"""A character behind which a key may have a value of its name: ``pass code: 1234``."""


@cache
def _heads(below: frozenset[str]) -> frozenset[str]:
    """Return the keys redacted because of a parent that head lines of notes, too."""
    return below - IN_NOTES


@cache
def _text_finder(below: frozenset[str], mark: str = MARK) -> Callable[[str | bytes], bool]:
    """Return a finder of texts that may have a secret: by a mark, a label, or a name ``below`` with its value."""
    heads = sorted(name[:3] for name in _heads(below))
    settings = rf"(?i:{'|'.join(heads)})[^\n]{{0,80}}[:=：]" if heads else ""
    return finder("|".join(filter(None, (mark, stem_pattern(), encoded_pattern(), settings))))


class TextRedaction(ABC):
    """The redaction of the texts of one body. It knows what became of them, and how many it has read in full."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, frozenset[str], int], str] = {}
        self._read = self._characters = 0
        self._names = 0
        self._encoded = iter(range(_MOST_ENCODED))

    @abstractmethod
    def redacted(self, value: Any, below: frozenset[str], room: int) -> Any:
        """Redact a value. ``below`` are the keys (`comparable`) that are redacted because of a parent.

        ``room`` is that of `redacted_text`, 0 where no text needs a look.
        """

    def _is_secret_text(self, key: str, below: frozenset[str], room: int) -> bool:
        """Return whether a key is itself a text with a secret, such as JSON, a form, or a name with its value."""
        key = undisguised(key)
        if not _text_finder(below)(key) and ('"' not in key or surely_plain(key, below)):
            return False
        if treatment(key) is NO_NAME and not _MAY_HIDE_A_NAME.search(key):
            return False
        if has_mark(key) and redacted_text(key, below, room, self.redacted) != key:
            return True
        return _MAY_HAVE_A_VALUE.search(key) is not None and without_labelled(without_blocks(key, _heads(below))) != key

    def _redacted_leaf(self, text: str, below: frozenset[str], room: int) -> str:
        if text.isascii() and not _text_finder(below, _ANY_MARK)(text):
            return text
        key = text, below, room
        if (new := self._texts.get(key)) is None:
            new = self._redacted_text(text, below, room)
            if len(text) <= _LONGEST_REMEMBERED and len(self._texts) < _MOST_READ:
                self._texts[key] = new
        return new

    def _redacted_text(self, text: str, below: frozenset[str], room: int) -> str:
        new = self._redacted_plain(text, below, room)
        if (plain := undisguised(new)) != new and (shown := self._redacted_plain(plain, below, room)) != plain:
            return shown
        return new  # a text without a secret keeps its letters

    def _redacted_plain(self, text: str, below: frozenset[str], room: int) -> str:
        if not _text_finder(below)(text):
            if '"' not in text or surely_plain(text, below):
                return text
        elif self._read >= _MOST_READ or self._characters >= _MOST_CHARACTERS:
            if not (_text_finder(below, "")(text) or names_secret(text, below)):
                return text
            self._names += 1
            return REDACTED
        self._read += 1
        self._characters += len(text)
        if room > 1:
            text = without_encoded(
                text, lambda inner: self._redacted_leaf(inner, below, room - 1) != inner, self._encoded
            )
        if has_mark(text):
            text = redacted_text(text, below, room, self.redacted)
        return without_labelled(without_blocks(text, _heads(below)))
