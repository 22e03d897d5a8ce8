"""Values that look like credentials, whatever their key is (mapping.md §7).

They stay in the raw event, and are withheld from everything that is made of it.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_plus

import orjson

from fhirline.config.tables import secrets
from fhirline.mappers.json_pointer import leaves_of
from fhirline.mappers.pipeline.finder import finder
from fhirline.mappers.pipeline.redaction.credential_forms import form_hints, forms
from fhirline.mappers.pipeline.redaction.disguises import DISGUISE, undisguised
from fhirline.mappers.pipeline.redaction.html_references import without_references
from fhirline.mappers.pipeline.redaction.keys import (
    LONGEST_CACHED,
    REDACTED,
    comparable,
    secret_if_opaque,
    secret_key,
    unquoted,
)
from fhirline.mappers.pipeline.redaction.labels import labelled_values, named_columns
from fhirline.mappers.pipeline.redaction.members import numbered_keys, with_keys_redacted
from fhirline.mappers.pipeline.redaction.search import Search, SearchedTooMuch, spans

_WHOLE = re.compile(r"\s*(?i:bearer)\s+\S{6,}\s*")
_ADDRESS = re.compile(r"(?<![^\s\"'<>])(?=[^\s\"'<>]{3})[^\s\"'<>=@%]*[=@%][^\s\"'<>]*")
"""A word of three or more characters, one of which is in each address with a user or a parameter (``k=1``)."""
_USER = re.compile(r"//[^/?#@]+@")
_PARAMETER = re.compile(r"[?&#;]([^?&#;=]{1,100})=[^?&#;]")
_FIRST_PARAMETER = re.compile(r"([^?&#;=/:]{1,100})=(?=[^?&#;]*[0-9]|[^?&#;]{12})")
_OPAQUE_VALUE = re.compile(r"[^\s]{12,}")
_OPAQUE_WORD = re.compile(r"\S+")
_LIKE_A_SECRET = re.compile(r"(?=\S*\d)\S{6,}(?:;\s.*)?|\S{20,}(?:;\s.*)?")
"""A word of six or more characters with a digit, or a long one; also several words of a cookie."""
_QUOTED_KEY = re.compile(r"""["']([^"'\\:]{1,100})\\*["']\s{0,8}:""")

_PRIVATE_OF_KEY = frozenset({"k", "d", "p", "q", "dp", "dq", "qi"})
"""Members of a JSON Web Key that are not public."""
_SHORTEST = 8
"""Characters of the shortest key that is looked at for a credential: ``//u@host``."""


@cache
def _form_finder() -> Callable[[str | bytes], bool]:
    """Return a finder: a text without a match has no credential of a form."""
    return finder("|".join(form_hints()))


@cache
def _credential_finder() -> Callable[[str | bytes], bool]:
    """Return a finder: a text or document without a match has no credential."""
    return finder("|".join([r"[=%]|&#|//.*@|@.*//|(?i:ookie|uth)|\x{ff1a}", DISGUISE.pattern, *form_hints()]))


def without_credentials(text: str, search: Search | None = None) -> str:
    """Return a text in which each credential is replaced by ``[redacted]``; ``[redacted]`` alone if it is one.

    Bearer tokens, JWTs, private keys, addresses with a user or with a signature or token among their parameters. Of a
    text that exceeds its body's ``search``, nothing is shown.

    >>> without_credentials("Join https://rooms.example.org/r/1?sig=abc at noon")
    'Join [redacted] at noon'
    >>> without_credentials("See https://example.org/leaflet?page=2, ask the bearer of the gene")
    'See https://example.org/leaflet?page=2, ask the bearer of the gene'
    """
    if _WHOLE.fullmatch(text):
        return REDACTED
    try:
        new = _without_forms(text, search)
        if (plain := undisguised(new)) != new:
            shown = _without_forms(plain, search)
            new = new if shown == plain else shown  # a text without a secret keeps its letters
    except SearchedTooMuch:
        return REDACTED
    return text if new == text else REDACTED if not new.replace(REDACTED, "").strip() else new


def _without_forms(text: str, search: Search | None) -> str:
    """Return a text without the credentials that it has in a form of the table, encoded, or in an address."""
    if _form_finder()(text):
        for form in forms():
            text = _with_spans_redacted(text, spans(text, form, search))
    if ("%" in text or "&#" in text) and _encoded_credential(text, search):
        return REDACTED
    if "=" in text or "@" in text or "%" in text:
        text = _ADDRESS.sub(lambda found: REDACTED if _signed(found[0]) else found[0], text)
    return text


def _encoded_credential(text: str, search: Search | None) -> bool:
    """Return whether a text has a credential, or JSON with a key that is withheld, in percent or HTML encoding."""
    for _ in range(4):
        if (decoded := unquoted(without_references(text).replace("+", " "))) == text:
            return False
        text = decoded
        if _names_withheld(text) or (_form_finder()(text) and _has_form(text, search)):
            return True
    return False


def _with_spans_redacted(text: str, credentials: Iterable[tuple[int, int]]) -> str:
    kept, at = [], 0
    for start, end in credentials:
        kept.append(text[at:start])
        at = end
    return REDACTED.join([*kept, text[at:]])


def _has_form(text: str, search: Search | None) -> bool:
    return any(next(spans(text, form, search), None) for form in forms())


def _signed(word: str) -> bool:
    """Return whether a word is an address with a user, or has parameters of which one is named like a credential."""
    if "%" in word:
        word = unquoted(word)
    if "&amp;" in word:
        word = without_references(word)
    if "@" in word and _USER.search(word):
        return True
    if "=" not in word:
        return False
    first = _FIRST_PARAMETER.match(word)  # a parameter of a form
    return bool(first and secret_key(first[1])) or any(map(_credential_parameter, set(_PARAMETER.findall(word))))


def _credential_parameter(name: str) -> bool:
    name = unquote_plus(name)
    return secret_key(name) or secret_if_opaque(name) or comparable(name) in _parameters()


@cache
def _parameters() -> frozenset[str]:
    return frozenset(map(comparable, secrets().withheld.parameters))


def has_credential(text: str, search: Search | None = None) -> bool:
    """Return whether a text is, or contains, what looks like a credential."""
    return without_credentials(text, search) is not text


def withhold(body: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a redacted body without credentials, and the JSON Pointers of the texts of which a part is kept.

    A text that is a credential becomes ``[redacted]``, which no field reads (`payload.Text`). So does a key, with a
    number where an object has several; its value stays, and its pointer is returned. The body is returned as it is
    where it has none.

    >>> withhold({"links": {"https://a@example.org/1": "mine", "https://b@example.org/2": "yours"}})
    ({'links': {'[redacted]': 'mine', '[redacted] 2': 'yours'}}, ('/links/[redacted]', '/links/[redacted] 2'))
    """
    if not _credential_finder()(orjson.dumps(body, default=str)):
        return body, ()
    new = _withheld(body, Search())
    if new is body:
        return body, ()
    pairs = zip(leaves_of(body), leaves_of(new), strict=True)
    return new, tuple(
        place for (was, old), (place, kept) in pairs if was != place or (old is not kept and kept != REDACTED)
    )


def _withheld(value: Any, search: Search) -> Any:
    if isinstance(value, str):
        return without_credentials(value, search)
    if isinstance(value, dict):
        changed = {}
        for key, item in value.items():
            if isinstance(item, str | dict | list) and (new := _withheld(item, search)) is not item:
                changed[key] = new
        if "kty" in value:  # a JSON Web Key
            changed |= {key: REDACTED for key in _PRIVATE_OF_KEY.intersection(value) if isinstance(value[key], str)}
        for key in labelled_values(value, secret_key):
            changed[key] = opaque_withheld(changed.get(key, value[key]))
        for key, columns in named_columns(value, _names_secret):
            changed[key] = _without_columns(changed.get(key, value[key]), columns)
        if numbers := numbered_keys(value):  # PHP's form of a list
            for place in _named_positions([value[key] for key in numbers]):
                changed[numbers[place]] = REDACTED
        secret = {key for key in value if len(key) >= _SHORTEST and has_credential(key, search)}
        if secret:
            return with_keys_redacted({**value, **changed}, secret)
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        items = [_withheld(item, search) if isinstance(item, str | dict | list) else item for item in value]
        for place in _named_positions(value) if len(value) > 1 else ():
            items[place] = REDACTED
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _names_secret(name: Any) -> bool:
    """Return whether an item of a list is the name of a secret, not a sentence in which one occurs."""
    return name.__class__ is str and len(name) <= LONGEST_CACHED and name.count(" ") < 3 and secret_key(name)


def _without_columns(rows: Any, columns: frozenset[int]) -> list[Any]:
    """Withhold what looks like a secret in columns of a table, whose rows are lists, or which has one row."""
    if any(isinstance(row, list) for row in rows):
        return [_without_columns(row, columns) if isinstance(row, list) else row for row in rows]
    hidden = {place for place in columns if place < len(rows) and _like_a_secret(rows[place])}
    return [REDACTED if place in hidden else item for place, item in enumerate(rows)] if hidden else rows


def _like_a_secret(value: Any) -> bool:
    return value.__class__ is str and _LIKE_A_SECRET.fullmatch(value) is not None


def _named_positions(value: list[Any]) -> list[int]:
    """Return the positions of a list at which the item before is the name of a secret, as in a list of headers.

    The names are words of records too (``["pin", "plate"]``): the item must look like a secret.
    """
    return [
        place for place, (name, item) in enumerate(pairwise(value), 1) if _like_a_secret(item) and _names_secret(name)
    ]


def is_opaque(text: str) -> bool:
    """Return whether a text has no white space and at least 12 characters."""
    return _OPAQUE_VALUE.fullmatch(text) is not None


def opaque_withheld(value: Any) -> Any:
    """Return a value below the key of a secret without its opaque leaves: numbers, and texts without white space.

    A sentence is no secret: the text of a report's part "Signature" is shown.
    """
    if isinstance(value, dict):
        return {key: opaque_withheld(item) for key, item in value.items()}
    if isinstance(value, list):
        return [opaque_withheld(item) for item in value]
    if value is None or value == "" or (isinstance(value, str) and not _OPAQUE_WORD.fullmatch(value.strip())):
        return value
    return REDACTED


def secret_value(value: Any, key: str = "") -> bool:
    """Return whether a leaf without a rule is withheld because of its value (last row of mapping.md §7).

    ``key`` is the last of its keys, which may demand it of a value that is opaque (``exact_if_opaque``).
    """
    if not isinstance(value, str):
        return False
    return (
        any(mark in value for mark in secrets().withheld.value_contains)
        or has_credential(value)
        or (secret_if_opaque(key) and is_opaque(value))
        or _names_withheld(value)
    )


def _names_withheld(text: str) -> bool:
    """Return whether a text is JSON, or a part of it, with a key that is withheld."""
    return '"' in text and any(secret_key(key) for key in set(_QUOTED_KEY.findall(text)))
