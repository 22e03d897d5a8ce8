"""A secret that tests plant in events, and how it is found in bytes, in whatever base64."""

import re
from base64 import b64encode

SECRET = "kv41xq7z55jw28"
"""Letters and digits, so that neither JSON nor an address nor markup writes it in another way."""
DIGITS = "90715528"
WIDE = SECRET.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
"""The secret in full-width signs."""


def _base64(content: bytes) -> list[bytes]:
    """Return what is in every base64 of bytes, whichever of them begins a group of three."""
    found = [b64encode(b" " * at + content)[4 * bool(at) :] for at in range(3)]
    return [word[:-4] if (at + len(content)) % 3 else word for at, word in enumerate(found)]


def _marks(secret: str) -> set[bytes]:
    once = {word for plain in (secret.encode(), secret.encode("utf-16-le")) for word in _base64(plain)}
    twice = {word for inner in once for word in _base64(inner)}
    return {secret.encode(), secret.encode().hex().encode(), "\u200b".join(secret).encode(), *once, *twice}


_MARKS = {WIDE.encode(), *_marks(SECRET), *_marks(DIGITS)}
"""The secrets in every form in which a disguise or an attachment may write them."""
_MARK = re.compile(b"|".join(map(re.escape, _MARKS)))


def shown_in(content: bytes) -> bool:
    """Return whether bytes have a secret of the table."""
    return _MARK.search(content) is not None
