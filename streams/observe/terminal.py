"""Text that contains payloads or other programs' words, made safe for a terminal."""

import json
from typing import Any

DELETE = "\x7f"
"""The only ASCII control character that JSON does not escape (RFC 8259 §7)."""


def printable(text: str) -> str:
    """Escape every unprintable character, so that the text cannot control the terminal."""
    return "".join(item if item.isprintable() else item.encode("unicode_escape").decode() for item in text)


def json_text(document: Any) -> str:
    """Format a document as JSON in printable ASCII, which parses to the same document."""
    return json.dumps(document, indent=2, ensure_ascii=True).replace(DELETE, "\\u007f")


def counted(number: int, thing: str, things: str = "") -> str:
    """Write a number and what it counts, in the singular for 1. ``things``: the plural where it is not ``thing``s.

    >>> counted(1, "problem"), counted(1200, "event"), counted(2, "entry", "entries")
    ('1 problem', '1,200 events', '2 entries')
    """
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
