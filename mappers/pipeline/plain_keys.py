"""The keys of a large object that surely name no secret, found for many keys at once (mapping.md §7).

A body of a few megabytes may have hundreds of thousands of distinct keys. To compare each costs microseconds; to look
for the letters of a secret's name in many at once costs little.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.secret_keys import LOOK_ALIKES, looked_for, redacted_within
from fhirline.mappers.pipeline.secret_texts import as_text, may_parse

_MANY = 1_000
"""Keys of the smallest object that is looked at so."""
_AT_ONCE = 50
_NOT_LETTERS = re.compile("[^a-z]+")
_LEVELS = 4


def plain_keys(value: Mapping[str, Any], above: str = "") -> frozenset[str]:
    """Return keys of a large object that are no name of a secret, and no text with one; of a small object none.

    ``above``: the key of the object, where the question is whether both together are such a name.
    """
    if len(value) < _MANY:
        return frozenset()
    keys = iter(value)
    found: list[str] = []
    while some := list(islice(keys, _AT_ONCE)):
        if not _may_name_secret(above + f"\n{above}".join(some)):
            found += some
    return frozenset(found)


def _may_name_secret(text: str) -> bool:
    if may_parse(text):
        return True
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    names_secret = _letters_finder()
    for _ in range(_LEVELS + 1):
        if any(map(names_secret, _letters(text))):
            return True
        decoded = as_text(text)
        if decoded == text:
            return False
        text = decoded
    return True


def _letters(text: str) -> Iterator[str]:
    """Yield the letters of a text, as they are compared in keys and in the words of keys."""
    if text.isascii():
        yield _NOT_LETTERS.sub("", text.lower())
        return
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    yield _NOT_LETTERS.sub("", plain)
    yield _NOT_LETTERS.sub("", plain.translate(LOOK_ALIKES))


@cache
def _letters_finder() -> Callable[[str | bytes], bool]:
    return finder("|".join({_NOT_LETTERS.sub("", name) for name in (*looked_for(), *redacted_within()[0])}))
