"""Text for a terminal that other programs and patients' payloads are in: nothing in it may steer the terminal."""

import json
from typing import Any

DELETE = "\x7f"
"""The one control character that JSON lets stand as it is (RFC 8259 §7), beside those above ASCII."""


def printable(text: str) -> str:
    """Text with everything that a terminal would obey written as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def json_text(document: Any) -> str:
    """The document as JSON in printable ASCII; whoever parses it reads what it was."""
    return json.dumps(document, indent=2, ensure_ascii=True).replace(DELETE, "\\u007f")
