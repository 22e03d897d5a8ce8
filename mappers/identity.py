"""Resource ids and names under BASE: equal vendor ids give equal FHIR ids (mapping.md §4, test vectors in §4.1)."""

import hashlib
import unicodedata
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, lru_cache
from uuid import NAMESPACE_URL, uuid5

from fhirline.config import tables
from fhirline.config.terminology import LONGEST_CACHED, norm
from fhirline.mappers.declarations import CodeSystem, Extension

__all__ = ["Naming", "Part", "decimal_text", "escape_part", "is_placeholder", "key", "norm"]

Part = str | int | float | Decimal | None

MOST_DIGITS = 400
"""Most digits of a number that is written without an exponent: a double has at most 309 before its point."""

_SHORT = 10**18
"""Integers below this are written at once: most ids."""

_NO_ID = "0-_.,:;/\\(){}[]<>\"'`*?!#~= \t\r\n"
"""The zero and punctuation: an id has at least one other character (mapping.md §2.6)."""

LONGEST_ID = 1_024
"""Characters of the longest text that is read as an id. State and keys of an event repeat its ids."""

_LONGEST_PLACEHOLDER = 200

_AROUND = " \t\r\n\u00a0\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e" + (
    "\u202f\u205f\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u3000\ufeff"
)
"""White space, byte order marks, and marks of direction and of width, which `trimmed` removes around a word."""


def escape_part(part: Part) -> str:
    """Write one part of a key: ``%``, ``|`` and ``/`` escaped, numbers in shortest decimal form, an absent part ``-``.

    >>> [escape_part(part) for part in ("a/b", 72.0, None)]
    ['a%2Fb', '72', '-']
    """
    if part is None:
        return "-"
    text = part if isinstance(part, str) else decimal_text(part)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.replace("%", "%25").replace("|", "%7C").replace("/", "%2F") or "-"


def decimal_text(number: int | float | Decimal) -> str:
    """Write a JSON number without exponent or trailing zeros: 1.0 is ``1``, 1e3 is ``1000``.

    Exact for an int and a Decimal of any size. Raises ValueError for a number that is not finite, or that has more
    than `MOST_DIGITS` digits.
    """
    if number.__class__ is int and -_SHORT < number < _SHORT:
        return str(number)
    if not number:
        return "0"  # also for -0.0: equal numbers get one text
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite() or max(abs(exact.adjusted()), len(exact.as_tuple().digits)) > MOST_DIGITS:
        raise ValueError("a number that is not finite, or too long to be written without an exponent")
    plain = format(exact, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def trimmed(text: str) -> str:
    """Return a text without white space and invisible marks around it.

    >>> trimmed("\\ufeff p-1\\u200f\\n")
    'p-1'
    """
    return text.strip(_AROUND)


def visible(text: str) -> str:
    """Return a text without invisible marks, and with ASCII digits for decimal digits of every script.

    >>> visible("\\u200fNU\\u200bLL"), visible("\u0660\u0661\u0969")
    ('NULL', '013')
    """
    if text.isascii():
        return text
    characters = (found for found in text if unicodedata.category(found) != "Cf")
    return "".join(str(unicodedata.digit(found)) if found.isdecimal() else found for found in characters)


def is_placeholder(text: str) -> bool:
    """Return whether a text is no id: it is written where one is missing, or is too long (mapping.md §2.6).

    >>> [is_placeholder(text) for text in ("Undefined", "0", "00000000-0000-0000-0000-000000000000", "${id}", "p-0")]
    [True, True, True, True, False]
    """
    if len(text) <= LONGEST_CACHED:
        return _is_placeholder(text)
    return len(trimmed(text)) > LONGEST_ID or _is_placeholder.__wrapped__(text)


@lru_cache(maxsize=8192)
def _is_placeholder(text: str) -> bool:
    text = visible(unicodedata.normalize("NFKC", text))
    if not text.strip(_NO_ID):
        return True
    if len(text) > _LONGEST_PLACEHOLDER:
        return False
    patterns = tables.placeholders().patterns
    return norm(text) in _placeholder_words() or any(pattern.fullmatch(text.strip()) for pattern in patterns)


@cache
def _placeholder_words() -> frozenset[str]:
    return frozenset(norm(word) for row in tables.placeholders().rows for word in row.words)


def key(*parts: Part) -> str:
    """Join key parts by ``/``, each escaped."""
    return "/".join(map(escape_part, parts))


@lru_cache(maxsize=4096, typed=True)
def _id(namespace: bytes, vendor: str, tenant: str, resource_type: str, kind: str, *parts: Part) -> str:
    """Make a resource id. It is cached, because an event names its patient a dozen times.

    The cache is ``typed``: 1 and True are equal but have other names.
    """
    return _uuid5(namespace, f"v1|{vendor}|{tenant}|{resource_type}|{kind}|{key(*parts)}")


def _uuid5(namespace: bytes, name: str) -> str:
    """Compute a UUIDv5 (RFC 9562 §5.5) as text, without the cost of a UUID object."""
    digits = hashlib.sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


@dataclass(frozen=True, slots=True)
class Naming:
    """Makes ids, identifier systems and extension URLs under BASE, which is fixed for the life of a deployment.

    ``server_base`` is the base of ``Bundle.entry.fullUrl``; BASE by default.
    """

    base: str
    server_base: str = ""
    _namespace: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_namespace", uuid5(NAMESPACE_URL, self.base).bytes)
        object.__setattr__(self, "server_base", self.server_base or self.base)

    def id(self, vendor: str, tenant: str, resource_type: str, kind: str, *parts: Part) -> str:
        """Return the UUIDv5 of ``v1|vendor|tenant|ResourceType|kind|k1/k2/…`` under BASE: 36 characters, lower case."""
        for part in parts:
            if part.__class__ is str and len(part) > LONGEST_CACHED:
                return _id.__wrapped__(self._namespace, vendor, tenant, resource_type, kind, *parts)
        return _id(self._namespace, vendor, tenant, resource_type, kind, *parts)

    def sid(self, vendor: str, tenant: str, kind: str) -> str:
        """Return the ``identifier.system`` of a vendor's own ids of one kind (mapping.md §4.2)."""
        return f"{self.base}/sid/{vendor}/{tenant}/{kind}"

    def code_system(self, declared: CodeSystem) -> str:
        """Return the ``Coding.system`` of a code system of ours."""
        return f"{self.base}/CodeSystem/{declared.name}"

    def extension(self, declared: Extension) -> str:
        """Return the URL of an extension of ours (mapping.md §5.2)."""
        return f"{self.base}/StructureDefinition/{declared.name}"
