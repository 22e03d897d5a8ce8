"""The comparison of keys with config/secrets.yaml (mapping.md §7)."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

from fhirline.config.tables import secrets
from fhirline.mappers.pipeline.redaction.html_references import without_references

REDACTED = "[redacted]"
"""The text in the place of a secret."""

IN_NOTES = frozenset({"url"})
"""Names redacted because of a parent that head lines of notes, too: there only in a text right below the parent."""
LONGEST_CACHED = 100
"""Length of the longest key of which the treatment is cached: keys are a sender's, and may be megabytes long."""

_SEPARATORS = re.compile(r"[.\[\]/:>|\\]+")
"""Separators of the keys of a path that was flattened to one key: ``dispense.url``, ``data[dispense][url]``."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
"""A word of a key in snake_case or camelCase."""

CODES = frozenset("%&\\")
_LEVELS = 4
_ESCAPED = re.compile(r"(?<!\\)\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_OF_ASCII = {f"%{sign}": chr(code) for code in range(128) for sign in (f"{code:02X}", f"{code:02x}")}
_NOT_ALPHANUMERIC = {code: None for code in range(128) if not chr(code).isalnum()}
_NOT_LETTERS = {code: None for code in range(128) if not chr(code).isalpha()}
LOOK_ALIKES = str.maketrans(
    "\u0430\u0441\u0501\u0435\u04bb\u0456\u0458\u043a\u04cf\u043c\u043e\u0440\u051b\u0455\u0442\u0443\u0445"
    "\u03b1\u03b5\u03b9\u03ba\u03bf\u03c1\u03c4\u03c5\u03c7\u03c3\u0131\u0261"
    "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ",
    "acdehijklmopqstyxaeikoptuxsigabcdefghijklmnoprstuvwyz",
)
"""Cyrillic and Greek letters, small capitals and variants, that look like Latin ones."""


class Treatment(NamedTuple):
    """The treatment of a key: redacted with everything below it, and the keys that are redacted below it."""

    redacted: bool
    below: frozenset[str]
    names: frozenset[str]
    """The forms of the key to look for among the keys that a parent redacts."""


def comparable(key: str) -> str:
    """Return a key as ``secrets.yaml`` compares it: NFKD, case folded, letters and digits only.

    White space, zero-width characters, punctuation and combining marks are dropped; full-width letters, letters with
    marks, and Cyrillic and Greek letters that look like Latin ones are these.
    """
    if key.isascii():
        return key.lower().translate(_NOT_ALPHANUMERIC)
    return "".join(filter(str.isalnum, _folded(key).casefold()))


def _folded(key: str) -> str:
    """Return a key with its Latin letters and those that look like them in their plain form, where it is lower case."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", key).casefold())
    return plain.translate(LOOK_ALIKES)


@cache
def redacted_names() -> frozenset[str]:
    """Return the keys of ``redacted``, as `comparable`."""
    return frozenset(map(comparable, secrets().redacted))


@cache
def names_within() -> tuple[tuple[str, ...], ...]:
    """Return the words of each key that is also found as words of a longer key.

    These are the keys of ``redacted_within``, and a parent of several words with each key that is redacted below it:
    ``chatConfigToken``.
    """
    names = tuple(tuple(words_of(name)) for name in secrets().redacted_within)
    parents = [(words_of(parent), keys) for parent, keys in secrets().redacted_below.items()]
    return names + tuple((*words, *words_of(key)) for words, keys in parents if len(words) > 1 for key in keys)


@cache
def redacted_within() -> tuple[frozenset[str], int]:
    """Return the keys of `names_within`, as `comparable`, and the number of words of the longest."""
    return frozenset(map("".join, names_within())), max(map(len, names_within()), default=0)


@cache
def redacted_below() -> dict[str, frozenset[str]]:
    """Return the table ``redacted_below``, parent → keys, as `comparable`."""
    return {comparable(parent): frozenset(map(comparable, keys)) for parent, keys in secrets().redacted_below.items()}


@cache
def table_names() -> frozenset[str]:
    """Return every word of the table, as `comparable`: such a key below a secret one cannot be data."""
    table = secrets()
    words = (
        *table.shown_below,
        *table.redacted_within,
        *table.withheld.exact,
        *table.withheld.contains,
        *table.withheld.exact_if_opaque,
    )
    parents, below = redacted_below(), frozenset[str]().union(*redacted_below().values())
    return frozenset({*redacted_names(), *parents, *below, *map(comparable, words)})


def treatment(key: str) -> Treatment:
    """Return the treatment of a key. The number at its end is ignored, unless it is a part of an encoded character."""
    if key[-1:].isdecimal() and CODES.isdisjoint(key):
        key = key.rstrip("0123456789") or key
    return _cached(key) if len(key) <= LONGEST_CACHED else _treatment(key)


def _treatment(key: str) -> Treatment:
    plain = _composed(key)
    decoded = plain if CODES.isdisjoint(plain) else _decoded(plain)
    both = (key,) if decoded == key else (key, decoded)
    if all(map(_has_no_letters_of_a_name, both)):
        return NO_NAME  # most keys
    known = looked_for()
    parts = both if decoded.isalnum() else _parts(key, decoded)
    names = [form for part in parts for form in _forms(comparable(part)) if form in known]
    redacted = any(map(_has_words_of_a_secret, both))
    if not names:
        return _REDACTED if redacted else _PLAIN
    further = frozenset[str]().union(*(redacted_below().get(name, ()) for name in names))
    found = frozenset(names)
    return Treatment(redacted or bool(found & redacted_names() or found & further), further, found)


NO_NAME = Treatment(redacted=False, below=frozenset(), names=frozenset())
"""The treatment of a key in whose letters, also decoded, no name occurs."""
_PLAIN = Treatment(redacted=False, below=frozenset(), names=frozenset())
_REDACTED = Treatment(redacted=True, below=frozenset(), names=frozenset())
_cached: Callable[[str], Treatment] = lru_cache(maxsize=4096)(_treatment)


@cache
def looked_for() -> frozenset[str]:
    """Return the names for which a key is compared, as `comparable`: no other name decides anything."""
    return frozenset().union(redacted_names(), redacted_below(), *redacted_below().values())


def _has_no_letters_of_a_name(key: str) -> bool:
    """Return whether the letters of a key surely contain no name, with and without those of other scripts."""
    find = _letters_of_names().search
    if key.isascii():
        return not find(key.lower().translate(_NOT_LETTERS))
    return not find(comparable(key).translate(_NOT_LETTERS)) and not find("".join(words_of(key)))


@cache
def _letters_of_names() -> re.Pattern[str]:
    """Return a pattern that is found in the letters of each key that is not `_PLAIN`."""
    return re.compile("|".join({re.sub("[^a-z]", "", name) for name in (*looked_for(), *redacted_within()[0])}))


@cache
def _joined_within() -> re.Pattern[str]:
    """Return a pattern that is found in the letters of each key that has the words of a secret. Most keys have none."""
    return re.compile("|".join(re.sub("[^a-z]", "", name) for name in redacted_within()[0]))


def _has_words_of_a_secret(key: str) -> bool:
    """Return whether a longer key has the words of a key of ``redacted_within`` in a row."""
    letters = key.lower().translate(_NOT_LETTERS) if key.isascii() else "".join(words_of(key))
    if not _joined_within().search(letters):
        return False
    return _words_within().search("_".join(words_of(key))) is not None


@cache
def _words_within() -> re.Pattern[str]:
    """Return a pattern of the keys of ``redacted_within`` among words with ``_`` between, wherever a word may end."""
    return re.compile(rf"(?:^|_)(?:{'|'.join('_?'.join(name) for name in redacted_within()[0])})(?:_|$)")


def split_further(key: str, inner: str) -> bool:
    """Return whether two keys, one below the other, are together the name of a secret, which neither is alone.

    >>> split_further("userPass", "code"), split_further("pass", "count"), split_further("plan", "passCode")
    (True, False, False)
    """
    joined = f"{key}_{inner}"
    return _split_further(key, inner, joined) if len(joined) <= LONGEST_CACHED else _is_split(key, inner, joined)


def _is_split(key: str, inner: str, joined: str) -> bool:
    return (
        _has_letters_of_a_secret(joined)
        and not treatment(inner).redacted
        and not treatment(key).redacted
        and treatment(joined).redacted
    )


_split_further: Callable[[str, str, str], bool] = lru_cache(maxsize=4096)(_is_split)


def _has_letters_of_a_secret(key: str) -> bool:
    """Return whether a key has the letters of a name by which `treatment` redacts. Most have none."""
    return _letters_of_secrets().search(comparable(_decoded(key)).translate(_NOT_LETTERS)) is not None


@cache
def _letters_of_secrets() -> re.Pattern[str]:
    names = {*redacted_within()[0], *redacted_names(), *redacted_below()}
    return re.compile("|".join(sorted(re.escape(name.translate(_NOT_LETTERS)) for name in names)))


@lru_cache(maxsize=4096)
def _begins_secret(key: str) -> bool:
    return comparable(key).rstrip("0123456789").endswith(_beginnings())


def begins_secret(key: str) -> bool:
    """Return whether a key may end with the first words of a key of ``redacted_within``: others may be below it."""
    return len(key) <= LONGEST_CACHED and _begins_secret(key)


@cache
def _beginnings() -> tuple[str, ...]:
    return tuple({"".join(words[:number]) for words in names_within() for number in range(1, len(words))})


def words_of(key: str) -> list[str]:
    """Return the words of a key in snake_case or camelCase, in lower case."""
    return [word.lower() for word in _WORD.findall(key if key.isascii() else unicodedata.normalize("NFKD", key))]


def _parts(key: str, decoded: str) -> tuple[str, ...]:
    """Return the key, also decoded, and the keys of which it consists where it is a flattened path."""
    parts = _SEPARATORS.split(decoded)
    further = parts if len(parts) > 1 else ()
    return (key, decoded, *further) if decoded != key else (key, *further)


def _composed(key: str) -> str:
    return key if key.isascii() else unicodedata.normalize("NFKC", key)


def _decoded(key: str) -> str:
    r"""Return a key without encodings one in the other: percent, HTML, and escapes such as ``\u0070``."""
    for _ in range(_LEVELS):
        if CODES.isdisjoint(key) or (decoded := unescaped(unquoted(without_references(key)))) == key:
            break
        key = decoded
    return key


def unescaped(text: str) -> str:
    r"""Resolve the escapes ``\uXXXX`` and ``\xXX`` of a text that is a part of JSON or of a program."""
    return _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)), text) if "\\" in text else text


def unquoted(text: str) -> str:
    """Return a text without its percent encoding; as `urllib.parse.unquote`, which takes long where little is encoded.

    >>> unquoted("pass%5Fcode %zz %C3%A9")
    'pass_code %zz é'
    """
    if "%" not in text:
        return text
    return _PERCENT.sub(_without_percent, text)


def _without_percent(found: re.Match[str]) -> str:
    if sign := _OF_ASCII.get(found[0]):
        return sign
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "replace")


def _forms(name: str) -> tuple[str, ...]:
    """Return a name, also without the number or the plural s at its end."""
    short = name.rstrip("0123456789")
    return (name, short, short.removesuffix("s")) if short else (name,)


def secret_key(key: str) -> bool:
    """Return whether a leaf without a rule is withheld because of its key (last row of mapping.md §7)."""
    return _secret_key(key) if len(key) <= LONGEST_CACHED else _is_secret(key)


def _is_secret(key: str) -> bool:
    exact, contains = _withheld()
    names = map(comparable, _parts(key, _decoded(_composed(key))))
    return treatment(key).redacted or any(name in exact or contains.search(name) is not None for name in names)


@cache
def _withheld() -> tuple[frozenset[str], re.Pattern[str]]:
    """Return the names that are withheld, as `comparable`, and a pattern of those that have one as a part."""
    rule = secrets().withheld
    return frozenset(map(comparable, rule.exact)), re.compile("|".join(map(re.escape, rule.contains)))


_secret_key: Callable[[str], bool] = lru_cache(maxsize=4096)(_is_secret)


@lru_cache(maxsize=4096)
def _secret_if_opaque(key: str) -> bool:
    return comparable(key) in map(comparable, secrets().withheld.exact_if_opaque)


def secret_if_opaque(key: str) -> bool:
    """Return whether a leaf without a rule is withheld because of its key, if its value is opaque (mapping.md §7)."""
    return len(key) <= LONGEST_CACHED and _secret_if_opaque(key)
