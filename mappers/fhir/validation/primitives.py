"""FHIR R4's primitive types as pydantic-core schemas: strict JSON types, and regular expressions that run in Rust.

Each follows the "Regex" of https://hl7.org/fhir/R4/datatypes.html. It is stricter where R4's text is (a date exists, an
id has at most 64 characters, a string is not blank), or where fhir.resources is.
"""

from pydantic_core import CoreSchema
from pydantic_core.core_schema import (
    bool_schema,
    float_schema,
    int_schema,
    no_info_plain_validator_function,
    str_schema,
    union_schema,
)

from fhirline.mappers.fhir.validation.xhtml import FLAT_DIV, checked_div

_YEAR = r"(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP_YEAR = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DAY = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    rf"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

FAST, OTHER = "~fast", "~"
"""Labels of a union's branches. Of a value that fails both, the problem of the second one is reported."""

MAX_STRING = 1024 * 1024
"""Characters of a string at most."""

STRING = r"^[ \r\n\t]*\S[ \r\n\t\S]*$"
CODE = r"^\S+(?:\s\S+)*$"
ID = r"^[A-Za-z0-9\-.]{1,64}$"
URI = r"^\S+$"
MARKDOWN = r"\S"
OID = r"^urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+$"
UUID = r"^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"  # v4, as fhir.resources
BASE64 = (
    r"^\s*(?:(?:[A-Za-z0-9+/]\s*){4})*(?:[A-Za-z0-9+/]\s*){2}(?:(?:[A-Za-z0-9+/]\s*){2}|[A-Za-z0-9+/]\s*=|=\s*=)\s*$"
)
DATE = rf"^(?:{_DAY}|{_YEAR}(?:-(?:0[1-9]|1[0-2]))?)$"
DATE_TIME = rf"^(?:{_DAY}(?:T{_TIME}{_ZONE})?|{_YEAR}(?:-(?:0[1-9]|1[0-2]))?)$"
INSTANT = rf"^{_DAY}T{_TIME}{_ZONE}$"
TIME = rf"^{_TIME}$"


def text(pattern: str) -> CoreSchema:
    """Return the schema of a string that matches a pattern (Rust's regex syntax)."""
    return str_schema(pattern=pattern, strict=True)


def plain(name: str) -> CoreSchema:
    """Return a faster schema that accepts only the common values of a primitive type (ASCII), if there is one."""
    pattern = PLAIN.get(name)
    return text(pattern) if pattern else primitive(name)


def primitive(name: str) -> CoreSchema:
    """Return the schema of a primitive type by its FHIR name."""
    match name:
        case "boolean":
            return bool_schema(strict=True)
        case "decimal":
            return float_schema(strict=True, allow_inf_nan=False)
        case "integer":
            return int_schema(strict=True, ge=-(2**31), le=2**31 - 1)
        case "unsignedInt":
            return int_schema(strict=True, ge=0, le=2**31 - 1)
        case "positiveInt":
            return int_schema(strict=True, ge=1, le=2**31 - 1)
        case "xhtml":
            return union_schema(
                [(text(FLAT_DIV), FAST), (no_info_plain_validator_function(checked_div), OTHER)], mode="left_to_right"
            )
        case "string" | "markdown":
            return str_schema(pattern=_PATTERNS[name], max_length=MAX_STRING, strict=True)
        case _:
            return text(_PATTERNS[name])


_PATTERNS = {
    "string": STRING,
    "code": CODE,
    "id": ID,
    "uri": URI,
    "url": URI,
    "canonical": URI,
    "markdown": MARKDOWN,
    "oid": OID,
    "uuid": UUID,
    "base64Binary": BASE64,
    "date": DATE,
    "dateTime": DATE_TIME,
    "instant": INSTANT,
    "time": TIME,
}

PLAIN = {
    "code": r"^[!-~]+(?: [!-~]+)*$",
    "uri": r"^[!-~]+$",
    "canonical": r"^[!-~]+$",
    "url": r"^[!-~]+$",
}
