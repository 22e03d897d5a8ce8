"""Validation of ``Narrative.div`` (txt-1, txt-2): our own flat divs by a regular expression, others by parsing."""

import re
from xml.etree import ElementTree

from pydantic_core import PydanticCustomError

XHTML = "http://www.w3.org/1999/xhtml"

_ENTITY = "&(?:amp|lt|gt|quot|#39|#x27);"
_CHARACTER = r"[^<&\x00-\x08\x0b\x0c\x0e-\x1f\x{fffe}\x{ffff}]"
_TEXT = rf"(?:{_CHARACTER}|{_ENTITY})*(?:[{_CHARACTER}&&\S]|{_ENTITY})(?:{_CHARACTER}|{_ENTITY})*"
FLAT_DIV = rf'^<div xmlns="{XHTML}">(?:<p>{_TEXT}</p>|<pre>{_TEXT}</pre>|<ul>(?:<li>{_TEXT}</li>)+</ul>)+</div>$'
"""Matches what `mappers.fhir.narrative` makes: blocks of escaped text in one div."""

# HTML 4.0 chapters 7-11 (except section 4 of chapter 9) and 15, <a>, images and style attributes; as HAPI lists them.
_ELEMENTS = frozenset(
    (
        "p br div h1 h2 h3 h4 h5 h6 a span b em i strong small big tt dfn q var abbr acronym cite blockquote hr "
        "address bdo kbd ul ol li dl dt dd pre table caption colgroup col thead tr tfoot tbody th td code samp "
        "img map area "
    ).split()
)
_ATTRIBUTES = frozenset("title style class id lang dir accesskey tabindex".split())
_OF_ELEMENT = {
    "a": frozenset(["charset", "type", "name", "href", "hreflang", "rel", "rev", "shape", "coords"]),
    "img": frozenset(["src", "alt", "longdesc", "height", "width", "usemap", "ismap", "name", "border", "align"]),
    "map": frozenset(["name"]),
    "area": frozenset(["shape", "coords", "href", "nohref", "alt"]),
    "q": frozenset(["cite"]),
    "blockquote": frozenset(["cite"]),
    "ol": frozenset(["start", "type"]),
    "table": frozenset(["summary", "width", "border", "frame", "rules", "cellspacing", "cellpadding"]),
}
_CELLS = frozenset("align char charoff valign span width abbr axis headers scope rowspan colspan nowrap".split())
_CELL_ELEMENTS = frozenset("col colgroup thead tbody tfoot tr th td".split())
_FORBIDDEN_SCHEME = re.compile(r"\s*(?:javascript|vbscript|data:text)", re.IGNORECASE)


def checked_div(value: object) -> object:
    """Return ``value``; raise PydanticCustomError where R4 does not allow it as a narrative's div."""
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Narrative.div must be a string")
    if "<!DOCTYPE" in value or "<!ENTITY" in value or "<?" in value:
        raise PydanticCustomError("txt-1", "Narrative.div must have no declaration and no processing instruction")
    try:
        root = ElementTree.fromstring(value)
    except (ElementTree.ParseError, ValueError):  # ValueError: lone surrogates
        raise PydanticCustomError("txt-1", "Narrative.div must be well-formed XHTML") from None
    if root.tag != f"{{{XHTML}}}div":
        raise PydanticCustomError("txt-1", "Narrative.div must be a div of the XHTML namespace")
    for element in root.iter():
        _check_element(element)
    if not any(part.strip() for part in root.itertext()) and root.find(f".//{{{XHTML}}}img") is None:
        raise PydanticCustomError("txt-2", "Narrative.div must have content")
    return value


def _check_element(element: ElementTree.Element) -> None:
    namespace, _, name = str(element.tag).rpartition("}")
    if namespace != f"{{{XHTML}" or name not in _ELEMENTS:
        raise PydanticCustomError("txt-1", "Narrative.div holds an element that R4 does not allow")
    allowed = _ATTRIBUTES | _OF_ELEMENT.get(name, frozenset()) | (_CELLS if name in _CELL_ELEMENTS else frozenset())
    for attribute, content in element.attrib.items():
        plain = attribute.removeprefix("{http://www.w3.org/XML/1998/namespace}")
        if plain not in allowed or (plain in {"href", "src"} and _FORBIDDEN_SCHEME.match(content)):
            raise PydanticCustomError("txt-1", "Narrative.div holds an attribute that R4 does not allow")
