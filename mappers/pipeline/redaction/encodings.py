"""Words in base64 or hex that encode a text with the name of a secret (mapping.md §7)."""

import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.keys import REDACTED, names_within

_ENCODED = re.compile(r"[A-Za-z0-9+/_\-\r\n]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-f]{2})+|(?:[0-9A-F]{2})+")


@cache
def encoded_pattern() -> str:
    """Return a pattern (of `finder`) that is found in every text with such a word: the encoded names."""
    spelled = {text for words in names_within() for text in _spellings(words)}
    return "|".join(sorted({form for text in spelled for form in _encodings(text.encode())}))


def without_encoded(text: str, has_secret: Callable[[str], bool], words: Iterator[int] | None = None) -> str:
    """Return a text in which each word that encodes a text with a secret is ``[redacted]``.

    ``has_secret`` decides on the decoded text: a document that only names a secret stays. ``words`` has an item for
    each further word that is decoded; behind them, each that encodes the name of a secret goes.

    >>> without_encoded("see cGFzc19jb2RlPTU1Mjg=", lambda inner: inner == "pass_code=5528")
    'see [redacted]'
    """
    names_secret = _encoded_finder()

    def replaced(found: re.Match[str]) -> str:
        word = found[0]
        if not names_secret(word):
            return word
        return REDACTED if (words and next(words, None) is None) or has_secret(decoded(word)) else word

    return _ENCODED.sub(replaced, text) if names_secret(text) else text


def decoded(word: str) -> str:
    """Decode a word in hex or base64. A word that was cut off is decoded as far as possible."""
    together = "".join(word.split()).rstrip("=")
    if _HEX.fullmatch(together):
        return _text_of(bytes.fromhex(together))
    encoded = together.replace("+", "-").replace("/", "_")
    encoded = encoded[: len(encoded) - (len(encoded) % 4 == 1)]
    return _text_of(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))


def _text_of(data: bytes) -> str:
    """Decode text in UTF-8, or in UTF-16 as far as its characters are ASCII."""
    if data[1:2] == b"\0" or data.startswith(b"\xff\xfe"):
        data = data.removeprefix(b"\xff\xfe")
        return data[: len(data) & ~1].decode("utf-16-le", "replace")
    return data.decode("utf-8", "replace")


@cache
def _encoded_finder() -> Callable[[str | bytes], bool]:
    return finder(encoded_pattern())


def _spellings(words: Sequence[str]) -> Iterator[str]:
    """Yield the ways in which a key of several words is written."""
    first, *others = words
    yield first + "".join(map(str.capitalize, others))
    for sign in ("", "_", "-", " "):
        lower = sign.join(words)
        yield from (lower, lower.capitalize(), lower.title(), lower.upper())


def _encodings(text: bytes) -> Iterator[str]:
    """Yield a text in hex, and the part of its base64 that does not depend on the text around it."""
    yield from (text.hex(), text.hex().upper())
    for before, start in enumerate((0, 2, 3)):
        whole = (before + len(text)) * 8 // 6
        form = b64encode(bytes(before) + text).decode()[start:whole]
        yield form.replace("+", "[+-]").replace("/", "[/_]")
