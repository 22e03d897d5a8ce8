"""Redaction inside texts: JSON in a text, at any depth of encoding, and query strings and forms (mapping.md §7)."""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

import orjson

from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.encodings import decoded as decoded_word
from fhirline.mappers.pipeline.redaction.html_references import without_references
from fhirline.mappers.pipeline.redaction.keys import (
    IN_NOTES,
    REDACTED,
    comparable,
    redacted_below,
    redacted_names,
    treatment,
    unescaped,
    unquoted,
)
from fhirline.mappers.pipeline.redaction.labels import is_label, without_labelled
from fhirline.mappers.pipeline.redaction.markup import markup_redacted

ROOM = 64
"""Levels of containers and encodings inside one text that are read. A deeper text is redacted if it names a secret."""

_DECODING = ROOM // 4
"""Levels of `ROOM` that one decoding (percent and HTML together) takes. `names_secret` sees through as many.

Each decoding reads the whole text: without a bound, a chain as ``%252525`` costs its length times the text's."""

RedactParsed = Callable[[Any, frozenset[str], int], Any]
"""Redacts parsed JSON: value, keys that are redacted because of a parent, and the `ROOM` that is left."""

_UNREADABLE = object()
_AROUND = " \t\r\n\x00\ufeff\u200b\u200c\u200d\u2060\u00a0"
_QUOTED_KEY = re.compile(r"""["']([^"'\\:]{1,100})\\*["']\s{0,8}:""")
_PAIR_KEY = re.compile(r"""(?<![^\s&?;#,"'<>={(])([^\s&?;#,"'<>={(]{1,100})=""")
_PAIR_END = re.compile(r"""[&;"'<>]|\s(?=\S)""")
_BASE64_START = (
    "(?:eyJ|eyA|ewo|ew0|W3s|WyJ|WyA|Wwo|Ww0|W1s|IHs|Cns|Cgp7|DQp7|CiB7|ZXlK|VzNz|Wlhs|Vm56"
    "|ewAi|ewAg|ewAK|WwB7|//57|//5b|77u/)"
)
"""Base64 of how JSON begins: ``{"``, ``{ ``, ``[{``, …; also of that in base64 once or twice more (``ZXlK``, ``Wlhs``),
in UTF-16 (``ewAi``) and behind a byte order mark."""
_MARKUP_START = "P[C-H]"
"""Base64 of how markup begins: ``<a``, ``<?``, …"""
_BASE64 = re.compile(rf"(?<![A-Za-z0-9+/_-])(?:{_BASE64_START}|{_MARKUP_START})[A-Za-z0-9+/_\-\r\n]{{13,}}={{0,2}}")
_SHORTEST_BASE64 = 16
_MOST_BASE64 = 1_000
"""Words in base64 of one text that are looked into one by one."""
QUOTED_PRINTABLE = re.compile(r"=(?:3D|3A|22|7B|5F|0A|\r?\n)")
"""Marks of quoted-printable: an encoded character between a name and its value, or a soft line break."""
_QUOTED_SIGN = re.compile(r"=[0-9A-F]{2}|=\r\n")
_QUOTED = {**{f"={number:02X}": chr(number) for number in range(256)}, "=\r\n": ""}
_QUOTED_EQUALS = re.compile(r"""\r?\n|3D *(?!=2[27])[^\s&;"'<>]""")
"""Pattern of what follows ``=`` in mail: a soft line break, or the rest of an encoded ``=`` and an unquoted value."""
_QUOTED_COLON = re.compile(r"3A +")
_SECTION = re.compile(
    r"(?:^[ \t]*|(?<=[ \t]))\[{1,2}([^\[\]\n]{1,60})\]{1,2}[ \t]*\r?\n((?:(?![ \t]*\[).*\n?)*)", re.MULTILINE
)
_SETTING = re.compile(r"^([^=\n]*=[ \t]*)\S++(?!(?<==)\r?\n)(?=[ \t\r]*$)", re.MULTILINE)
_NAMED_SETTING = re.compile(r"^([ \t]*([^\s=]{1,100})[ \t]*=[ \t]*)(\S[^\n]*)$", re.MULTILINE)
_MOST_PAIRS = 10_000
"""Pairs with a secret of one text that are read. Behind them the text is a value."""
_ESCAPE = r"\\u00[2-7]|\\x[2-7]"
"""Pattern of the beginning of an escaped ASCII character."""
_HAS_ESCAPE = re.compile(_ESCAPE)


BASE64_MARK = rf"{_BASE64_START}|{_MARKUP_START}[A-Za-z0-9+/_\-\r\n]{{13}}"
"""Pattern (of `finder`) that is found in every text that has JSON or markup in base64."""
MARK = rf"[=%&]|\{{'|</|{_ESCAPE}|{BASE64_MARK}"
"""Pattern (of `finder`) that is found in every text for which `has_mark` holds by another mark than a quote."""


def has_mark(text: str) -> bool:
    """Return whether a text may have a key in it that redaction looks for."""
    return (
        '"' in text
        or "=" in text
        or "%" in text
        or "&" in text
        or "{'" in text
        or "</" in text
        or ("\\" in text and _HAS_ESCAPE.search(text) is not None)
        or (len(text) >= _SHORTEST_BASE64 and _BASE64.search(text) is not None)
    )


def redacted_text(text: str, below: frozenset[str], room: int, redact: RedactParsed) -> str:
    """Return a text in which every secret is replaced by ``[redacted]``; the same text where it has none. Idempotent.

    JSON is redacted as a body is, and a word that is JSON in base64 is redacted whole if it has a secret. So is a part
    of JSON that cannot be read, and a text in another encoding (percent, HTML); in a query string or form only the
    value is. ``below`` and ``room`` as `RedactParsed` has them.
    """
    if '"' in text and (parsed := _parsed(text)) is not _UNREADABLE:
        left = room - depth(parsed)
        if left <= 0:
            return REDACTED if names_secret(text, below) else text
        new = redact(parsed, below, left)
        # A repeated key hides its first value from the parser, so that a text that names a secret is always rewritten.
        return _dumped_in(text, new) if new is not parsed or names_secret(text, below) else text
    if room > 0 and len(text) >= _SHORTEST_BASE64:
        text = _base64_redacted(text, below, room - 1, redact)
    if not names_secret(text, below):
        return text
    if room <= 0 or any(map(_fragment_key, set(_QUOTED_KEY.findall(unescaped(text))))):
        return REDACTED
    new = _pairs_redacted(_sections_redacted(markup_redacted(text, below), below), below)
    # Both at once: one after the other in each order is two ways a level, which doubles the work with each.
    decoded = unquoted(new.replace("+", " ")) if "%" in new else new
    decoded = unescaped(without_references(decoded))
    if decoded != new and (room <= _DECODING or redact(decoded, below, room - _DECODING) != decoded):
        return REDACTED
    return REDACTED if QUOTED_PRINTABLE.search(new) and _quoted_secret(new, below, room - _DECODING, redact) else new


def _quoted_secret(text: str, below: frozenset[str], room: int, redact: RedactParsed) -> bool:
    """Return whether a redacted text has a further secret where it is read as quoted-printable, but for labels."""
    if room <= 0:
        return True
    known = _without_quoted_printable(without_labelled(text))
    return bool(redact(_without_quoted_printable(text), below, room) != known)


def _base64_redacted(text: str, below: frozenset[str], room: int, redact: RedactParsed) -> str:
    """Return a text without the words in base64 that encode a secret; without any of them where they are too many."""
    words = set(_BASE64.findall(text))
    if not words:
        return text
    decoded = {word: decoded_word(word) for word in words}
    together = "\n".join(decoded.values())
    if not names_secret(together, below) and not _BASE64.search(together):
        return text
    many = len(decoded) > _MOST_BASE64
    secret = {word for word, inner in decoded.items() if many or redacted_text(inner, below, room, redact) != inner}
    return _BASE64.sub(lambda found: REDACTED if found[0] in secret else found[0], text) if secret else text


def depth(value: Any) -> int:
    """Return how deep containers are nested, level by level and so without recursion; 1 for a scalar."""
    found, level = 1, [value] if isinstance(value, dict | list) else []
    while level:
        found += 1
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
    return found


def _parsed(text: str) -> Any:
    """Parse a text that is a JSON object, list or string; else `_UNREADABLE`. Reads what orjson refuses, as NaN."""
    inner = text.strip(_AROUND)
    if not inner or inner[0] not in '{["' or inner[-1] not in '}]"':
        return _UNREADABLE
    try:
        return orjson.loads(inner)
    except ValueError:
        pass
    try:
        return json.loads(inner, strict=False)
    except (ValueError, RecursionError):
        return _UNREADABLE


def _dumped_in(text: str, value: Any) -> str:
    """Write a value in place of the JSON in a text. The text around it stays, so that it is read alike again."""
    inner = text.strip(_AROUND)
    before, _, behind = text.partition(inner)
    return f"{before}{_dumped(value)}{behind}"


def _dumped(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer beyond 64 bits, or half of a surrogate pair
        return json.dumps(value, separators=(",", ":"))


def names_secret(text: str, below: frozenset[str]) -> bool:
    """Return whether a text has the name of a redacted key, or of the parent of one, however it is encoded."""
    plain = text
    for _ in range(4):
        if "%" not in plain and "&" not in plain and "\\" not in plain and not _has_quoted_printable(plain):
            break  # nothing is encoded
        decoded = as_text(plain)
        if decoded == plain:
            break
        plain = decoded
    return _name_finder(below)(comparable(plain))


def surely_plain(text: str, below: frozenset[str]) -> bool:
    """Return whether a text without other marks than quotes surely has no secret: ASCII, nothing escaped, no name."""
    return text.isascii() and "\\" not in text and not _name_finder(below)(comparable(text))


def as_text(text: str) -> str:
    """Return a text without one level of encoding (quoted-printable, percent, HTML, and escapes)."""
    return unescaped(without_references(unquoted(_without_quoted_printable(text))))


@lru_cache(maxsize=64)
def _name_finder(below: frozenset[str]) -> Callable[[str | bytes], bool]:
    """Return a finder of the names of redacted keys and of the parents of such, as `comparable`."""
    return finder("|".join({*redacted_names(), *redacted_below(), *below}))


def _has_quoted_printable(text: str) -> bool:
    return "=" in text and QUOTED_PRINTABLE.search(text) is not None


def _without_quoted_printable(text: str) -> str:
    """Decode the encoded characters of a text in quoted-printable, which mail has."""
    if not _has_quoted_printable(text):
        return text
    return _QUOTED_SIGN.sub(lambda found: _QUOTED[found[0]], text.replace("=\n", ""))


def _sections_redacted(text: str, below: frozenset[str]) -> str:
    """Redact the values of each section that is named like a secret, in the form of INI and TOML files.

    A value with white space is none, and "Dispense" alone is a word of a record.
    """

    def replaced(found: re.Match[str]) -> str:
        name = found[1].strip(" \t\"'")
        head = found[0][: len(found[0]) - len(found[2])]
        if is_label(name) or treatment(name).names & below:
            return head + _SETTING.sub(rf"\1{REDACTED}", found[2])
        if not (further := (below - IN_NOTES) | treatment(name).below):
            return found[0]
        return head + _NAMED_SETTING.sub(
            lambda line: line[1] + (line[3] if treatment(line[2]).names.isdisjoint(further) else REDACTED), found[2]
        )

    return _SECTION.sub(replaced, text) if "[" in text else text


def _fragment_key(key: str) -> bool:
    found = treatment(key)
    return found.redacted or bool(found.below)


def _pairs_redacted(text: str, below: frozenset[str]) -> str:
    """Redact the values of ``key=value`` in a query string or form, each up to the next separator."""
    kept, at, position = [], 0, 0
    known: dict[str, bool] = {}
    while found := _PAIR_KEY.search(text, position):
        position = found.end()
        name = found[1]
        if name not in known:
            secret = treatment(unquote_plus(name))
            known[name] = secret.redacted or bool(secret.names & below)
        if not known[name]:
            continue
        if _QUOTED_EQUALS.match(text, position):
            continue  # so that the text is read as quoted-printable
        while position < len(text) and text[position] == " ":
            position += 1
        colon = _QUOTED_COLON.match(text, position)
        ends = _PAIR_END.search(text, colon.end() if colon else position)
        end = ends.start() if ends else len(text)
        if end > position:
            kept += [text[at:position], REDACTED]
            if len(kept) > 2 * _MOST_PAIRS:
                return "".join(kept)
        at = position = end
    return "".join([*kept, text[at:]]) if kept else text
