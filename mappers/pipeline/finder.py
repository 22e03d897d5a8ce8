"""A fast search of a text or of a document, for whether a slower pattern or reader has to look at it."""

from collections.abc import Callable

from pydantic_core import SchemaValidator, core_schema


def finder(pattern: str) -> Callable[[str | bytes], bool]:
    r"""Return a function that tells whether a text, or bytes in UTF-8, has a match of a pattern.

    The pattern is of Rust's ``regex``, which pydantic-core contains: it has no look-around, and reads a text once
    whatever its alternatives are, many times as fast as Python's. What is not Unicode (half of a surrogate pair) cannot
    be searched; the answer is then True, so that it is looked at.

    A pattern that begins with a counted repetition, or has ``.*`` behind common words, is in so many states at once
    that the search falls back to a hundredth of its speed: a hint is better short and found too often.

    >>> may_have_key = finder(r"(?i:pass.?code|secret)")
    >>> may_have_key("Your PassCode"), may_have_key(b'{"reason":"Cough"}'), may_have_key("\ud800")
    (True, False, True)
    """
    matches = SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python

    def found(text: str | bytes) -> bool:
        return matches(text) or not (text.isascii() or _is_unicode(text))

    return found


def _is_unicode(text: str | bytes) -> bool:
    try:
        _ = text.encode() if isinstance(text, str) else text.decode()
    except UnicodeError:
        return False
    return True
