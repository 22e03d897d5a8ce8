"""Keys of members that hold the name of a value, and keys of the members that hold this value (mapping.md §7)."""

from collections.abc import Sequence

_LABELS = (
    *("name", "key", "k", "label", "field", "attribute", "property", "parameter", "header", "title", "code", "id"),
    *("column", "kind", "variable", "var", "argument", "arg", "term", "question", "prompt", "path"),
)
_VALUES = (
    *("value", "val", "v", "values", "content", "text", "data", "answer", "default", "valueString", "stringValue"),
    *("cell", "result", "response", "input", "definition", "new", "old", "from", "to", "before", "after"),
)
_NAMED = (
    *("field", "attribute", "property", "parameter", "param", "header", "key", "item", "setting"),
    *("column", "new", "old"),
)
"""First words of longer names of labels and values: ``fieldName``, ``field_value``."""
_TYPES = (
    *("String", "Code", "Uri", "Url", "Canonical", "Id", "Oid", "Uuid", "Markdown", "Integer", "Decimal"),
    *("PositiveInt", "UnsignedInt", "Base64Binary", "Identifier", "Coding", "CodeableConcept", "Quantity"),
    *("Attachment", "Reference", "ContactPoint", "Annotation", "Signature", "Meta"),
)
_TYPED_VALUES = (*(f"value{name}" for name in _TYPES), "extension", "part")
"""Members of an extension or a parameter of FHIR that hold its value."""
ADDRESSES = ("url", "system")
_ONLY_OF_KNOWN = ("type", *ADDRESSES)
"""Labels that name a secret only where they name a redacted key, as the ``url`` of an extension does."""


def _cased(names: Sequence[str], ending: str) -> tuple[str, ...]:
    longer = [name for begin in _NAMED for name in (f"{begin}{ending.capitalize()}", f"{begin}_{ending}")]
    return tuple(item for name in (*names, *longer) for item in (name, name[0].upper() + name[1:], name.upper()))


CASED_LABELS = frozenset({*_cased(_LABELS, "name"), "url"})
CASED_KNOWN_LABELS = frozenset({*CASED_LABELS, *_ONLY_OF_KNOWN})
CASED_VALUES = frozenset({*_cased(_VALUES, "value"), *_TYPED_VALUES})
ROWS = frozenset(_cased(("rows", "values", "data", "records", "items", "lines"), "values"))

LABELS = frozenset({*CASED_KNOWN_LABELS, "1"})
"""Members of an object that may name another."""
MAY_LABEL = frozenset({*CASED_VALUES, *ROWS, "1"})
"""Members of an object that another may name. Most objects have none, and need no further look."""
