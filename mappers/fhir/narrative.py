"""XHTML of Narratives: built by template, all input escaped, no vendor markup passed through (txt-1, txt-2)."""

from collections.abc import Iterable
from html import escape

from fhirline.mappers.payload import clean
from fhirline.mappers.results import Element

XHTML = "http://www.w3.org/1999/xhtml"


def div(*blocks: str) -> str:
    """One flat ``div`` of blocks made by the functions below."""
    return f'<div xmlns="{XHTML}">{"".join(blocks)}</div>'


def paragraphs(text: str) -> str:
    """A ``<p>`` per line that is not blank."""
    return "".join(f"<p>{_escaped(line)}</p>" for line in text.splitlines() if not line.isspace() and line)


def preformatted(text: str) -> str:
    return f"<pre>{_escaped(text)}</pre>"


def items(texts: Iterable[str]) -> str:
    """A list, an item a text; nothing where there is none."""
    made = "".join(f"<li>{_escaped(text)}</li>" for text in texts)
    return f"<ul>{made}</ul>" if made else ""


def narrative(status: str, *blocks: str) -> Element | None:
    """A Narrative of ``status`` (``generated``, ``additional``, …); None where no block has content (txt-2)."""
    return {"status": status, "div": div(*blocks)} if any(blocks) else None


def _escaped(text: str) -> str:
    return escape(clean(text) or "", quote=True)
