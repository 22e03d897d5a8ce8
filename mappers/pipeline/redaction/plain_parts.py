"""Search for parts of a large body that surely have no secret, by one search of their JSON (mapping.md §7).

A body of a few megabytes may have hundreds of thousands of objects, lists, keys and texts. To look at each costs
microseconds; to look for the letters of the secrets' names in many at once costs little.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from itertools import islice
from typing import Any

import orjson

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.disguises import undisguised
from fhirline.mappers.pipeline.redaction.embedded_formats import BASE64_MARK, QUOTED_PRINTABLE, as_text
from fhirline.mappers.pipeline.redaction.encodings import encoded_pattern
from fhirline.mappers.pipeline.redaction.html_references import without_references
from fhirline.mappers.pipeline.redaction.keys import (
    LOOK_ALIKES,
    comparable,
    names_within,
    redacted_below,
    redacted_names,
    unescaped,
    unquoted,
)

MANY = 64
"""Items of the shortest list, and members of the smallest object, that are searched in parts."""
_AT_ONCE = 32
"""Items or members of a part."""
_ESCAPED = tuple(b"\\" + letter for letter in (b'"', b"n", b"r", b"t", b"b", b"f"))
"""The escaped characters that `comparable` drops from a key."""
_LOOK_ALIKE = re.compile(f"[{''.join(map(chr, LOOK_ALIKES))}]")
_OTHERS = bytes(set(range(256)) - set(b"abcdefghijklmnopqrstuvwxyz"))
_DECODINGS = 5
_MOST_DECODED = 65_536
"""Bytes of the longest JSON that is looked at in further forms: without its encodings, and with letters folded."""


def is_plain(value: Any, below: frozenset[str], texts: bool) -> bool:
    """Return whether redaction surely changes nothing in an object or a list.

    ``below``: the keys (`keys.comparable`) that are redacted because of a parent. ``texts``: whether texts are
    looked into. False where it is not sure.

    >>> is_plain({"reason": ["Cough", {"api": 1}]}, frozenset(), texts=True)
    True
    >>> is_plain({"pass": {"at": 1, "code": 2}}, frozenset(), texts=True)
    False
    """
    try:
        data = orjson.dumps(value)
    except TypeError:  # half of a surrogate pair, or nested too deep to be written
        return False
    if b"\\" in (data := _without_escapes(data)):
        return False
    if texts and _mark_finder()(data):
        return False
    if data.isascii() and not (b"%" in data or b"&" in data or b"=" in data):
        letters = data.lower().translate(None, _OTHERS)
        return not _may_name_secret(letters, data, below, texts)
    return len(data) <= _MOST_DECODED and _is_plain_decoded(data.decode(), below, texts)


def _is_plain_decoded(text: str, below: frozenset[str], texts: bool) -> bool:
    if texts and (plain := undisguised(text)) != text:
        if "\\" in plain or plain.count('"') != text.count('"') or _mark_finder()(plain):
            return False
        text = plain
    text = unicodedata.normalize("NFKC", text)
    if QUOTED_PRINTABLE.search(text) and not _is_plain_in(text, as_text, below, texts):
        return False  # decoding it changes the texts around it, too: below they are searched undecoded
    return _is_plain_in(text, _without_codes, below, texts)


def _is_plain_in(text: str, decode: Callable[[str], str], below: frozenset[str], texts: bool) -> bool:
    """Return whether a text surely names no secret, however often it is decoded."""
    for _ in range(_DECODINGS):
        if any(_may_name_secret(letters.encode(), text.encode(), below, texts) for letters in _letters_of(text)):
            return False
        decoded = decode(text)
        if decoded == text:
            return True
        text = decoded
    return False


def _without_codes(text: str) -> str:
    """Return a text without one level of percent encoding, HTML's references and escapes."""
    return unescaped(without_references(unquoted(text)))


def _may_name_secret(letters: bytes, data: bytes, below: frozenset[str], texts: bool) -> bool:
    """Return whether JSON may have the name of a secret, in one key or text or in several, one in the other.

    ``letters`` are those of ``data``, in lower case. A parent counts with a key that is redacted below it, or with an
    address.
    """
    if _name_finder(below)(letters):
        return True
    for word, others in _split_names():
        if word in letters and any(all(other in letters for other in words) for words in others):
            return True
    if not _parent_finder()(letters):
        return False
    if not texts and (b"\\" in data or _mark_finder()(data)):  # below a parent texts are looked into
        return True
    return b"://" in data or any(
        parent in letters and any(key in letters for key in keys) for parent, keys in _parents()
    )


@cache
def _mark_finder() -> Callable[[str | bytes], bool]:
    """Return a finder that matches every text that encodes another one, whose names of secrets it may hide."""
    return finder(f"{BASE64_MARK}|{encoded_pattern()}")


@cache
def _name_finder(below: frozenset[str]) -> Callable[[str | bytes], bool]:
    names = (*redacted_names(), *map("".join, names_within()), *below)
    return finder("|".join(sorted({_only_letters(name) for name in names})))


@cache
def _split_names() -> tuple[tuple[bytes, tuple[tuple[bytes, ...], ...]], ...]:
    """Return the names of several words: one word, the longest, which fewest texts have, and the others with it."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for words in names_within():
        word = max(words, key=len)
        found.setdefault(word, set()).add(tuple(other for other in words if other != word))
    return tuple(
        (word.encode(), tuple(tuple(other.encode() for other in words) for words in sorted(others)))
        for word, others in found.items()
    )


@cache
def _parent_finder() -> Callable[[str | bytes], bool]:
    return finder("|".join(sorted(map(_only_letters, redacted_below()))))


@cache
def _parents() -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    return tuple(
        (_only_letters(parent).encode(), tuple(_only_letters(key).encode() for key in keys))
        for parent, keys in redacted_below().items()
    )


def parts_of(
    items: list[Any], plain: Callable[[list[Any]], bool], many: int = MANY
) -> Iterator[tuple[list[Any], bool]]:
    """Yield the parts of a list, and whether each is ``plain``. A list of less than ``many`` items is one part."""
    if len(items) < many:
        yield items, False
        return
    for start in range(0, len(items), _AT_ONCE):
        part = items[start : start + _AT_ONCE]
        yield part, plain(part)


def members_of(
    value: dict[str, Any], plain: Callable[[dict[str, Any]], bool], many: int = MANY
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the members of an object in parts, as `parts_of` does."""
    if len(value) < many:
        yield value, False
        return
    members = iter(value.items())
    while part := dict(islice(members, _AT_ONCE)):
        yield part, plain(part)


def is_unsplit(value: Any, above: str) -> bool:
    """Return whether no key in an object or a list surely is a name of a secret together with its key, ``above``.

    A name may be split over several levels. False where it is not sure.
    """
    try:
        data = orjson.dumps(value)
    except TypeError:
        return False
    if len(data) > _MOST_DECODED and not data.isascii():
        return False
    ends = _ends_of(comparable(above).rstrip("0123456789"))
    text = _without_escapes(data).decode()
    if "\\" in text:
        return False
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    for _ in range(_DECODINGS):
        if any(all(word in letters for word in words) for letters in _letters_of(text) for words in ends):
            return False
        if "%" not in text and "&" not in text:
            return True
        decoded = _without_codes(text)
        if decoded == text:
            return True
        text = decoded
    return False


@lru_cache(maxsize=256)
def _ends_of(begun: str) -> tuple[tuple[str, ...], ...]:
    """Return the last words of each name whose first words are the end of a key."""
    ends: set[tuple[str, ...]] = {
        (key,) for parent, keys in redacted_below().items() if begun.endswith(parent) for key in keys
    }
    ends |= {
        words[place:]
        for words in names_within()
        for place in range(1, len(words))
        if begun.endswith("".join(words[:place]))
    }
    return tuple(sorted({tuple(map(_only_letters, words)) for words in ends}))


def _letters_of(text: str) -> Iterator[str]:
    """Yield the letters of a text, as they are compared in keys and in the words of keys."""
    if text.isascii():
        yield _only_letters(text.lower())
        return
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    yield _only_letters(plain)
    if _LOOK_ALIKE.search(plain):
        yield _only_letters(plain.translate(LOOK_ALIKES))


def _without_escapes(data: bytes) -> bytes:
    """Return JSON without its `_ESCAPED`; a backslash stays where it has others. A pattern would visit each one."""
    if b"\\" not in data or b"\\\\" in data:  # a letter behind an escaped backslash is not escaped
        return data
    for escaped in _ESCAPED:
        data = data.replace(escaped, b"")
    return data


def _only_letters(text: str) -> str:
    return text.encode("ascii", "ignore").translate(None, _OTHERS).decode()
