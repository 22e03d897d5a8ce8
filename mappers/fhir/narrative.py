"""Builders of XHTML for Narratives. All input is escaped: a vendor's markup is shown as text (txt-1, txt-2)."""

from collections.abc import Iterable
from html import escape

from fhirline.mappers.payload import clean
from fhirline.mappers.results import Element

XHTML = "http://www.w3.org/1999/xhtml"


def div(*blocks: str) -> str:
    """Make a flat ``div`` of blocks, which the functions below make."""
    return f'<div xmlns="{XHTML}">{"".join(blocks)}</div>'


def paragraphs(text: str) -> str:
    """Make a ``<p>`` of each line that is not blank."""
    return "".join(f"<p>{_escaped(line)}</p>" for line in text.splitlines() if not line.isspace() and line)


def preformatted(text: str) -> str:
    """Make a ``<pre>`` of a text, line breaks kept."""
    return f"<pre>{_escaped(text)}</pre>"


def items(texts: Iterable[str]) -> str:
    """Make a ``<ul>`` with one item per text; ``""`` without texts."""
    made = "".join(f"<li>{_escaped(text)}</li>" for text in texts)
    return f"<ul>{made}</ul>" if made else ""


def narrative(status: str, *blocks: str) -> Element | None:
    """Make a Narrative with a status (``generated``, ``additional``, …); None where no block has content (txt-2)."""
    return {"status": status, "div": div(*blocks)} if any(blocks) else None


def _escaped(text: str) -> str:
    return escape(clean(text) or "", quote=True)
