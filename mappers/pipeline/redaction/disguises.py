"""Texts in which a secret may be disguised by look-alike or invisible characters (mapping.md §7)."""

import re
import unicodedata

from fhirline.mappers.pipeline.redaction.keys import LOOK_ALIKES

_UNSEEN = (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF)
_SIGNS = {
    **dict.fromkeys(_UNSEEN),
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **{code: unicodedata.normalize("NFKC", chr(code)) for code in (*range(0x24B6, 0x24EA), *range(0x1D400, 0x1D800))},
}
"""Invisible characters, and full-width, encircled and mathematical ones, with their plain form."""
_MIXED = "[A-Za-z][\u0370-\u04ff]|[\u0370-\u04ff][A-Za-z]"
_MIXED_LETTERS = re.compile(_MIXED)
"""Letters of two scripts. The word may be a name in disguise, and may be one of medicine: γGT, TNFα."""
_WORD = re.compile(r"[^\W\d_]{2,}")
DISGUISE = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\uff01-\uff5e\u24b6-\u24e9\U0001d400-\U0001d7ff]|"
    + _MIXED
)


def undisguised(text: str) -> str:
    """Return a text to look for a secret in; the same text where nothing is disguised. It is not for showing.

    >>> undisguised("p\u0430ssword\uff1a 1, пароль")
    'password: 1, пароль'
    """
    if text.isascii() or not DISGUISE.search(text):
        return text
    text = text.translate(_SIGNS)
    return _WORD.sub(_plain_word, text) if _MIXED_LETTERS.search(text) else text


def _plain_word(found: re.Match[str]) -> str:
    word = found[0]
    return word.translate(LOOK_ALIKES) if not word.isascii() and _MIXED_LETTERS.search(word) else word
