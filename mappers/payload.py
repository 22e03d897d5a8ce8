"""Building blocks of the vendors' payload models. Validating a body with such a model never raises.

A leaf of the wrong type, a blank or redacted string, or a null reads as absent: None, or ``()`` for a list. The ledger
still finds the value in the body and keeps it (mapping.md §1, rules 2 and 5). A number where a text is expected is read
as text, an object where a list is expected as a list of one, or as a list if its keys are all decimal numbers.

>>> class Drug(Payload):
...     name: Text = None
...     days: Number = None
...     notes: Items[Text] = ()
>>> Drug.model_validate({"name": " ", "days": "7.50", "notes": ["with food", {}], "unknown": 1})
Drug(name=None, days=Decimal('7.50'), notes=('with food', None))
"""

import re
import unicodedata
from decimal import Decimal
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
)
from pydantic_core import CoreSchema, core_schema

from fhirline.mappers.identity import decimal_text, is_placeholder, trimmed
from fhirline.mappers.json_pointer import items_by_number
from fhirline.mappers.pipeline.redaction.redact import REDACTED

_UNCLEAN = re.compile(r"[^\S \t\r\n]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
# Texts that `clean` returns unchanged (R4's string: `[ \r\n\t\S]+`): no control characters, no unusual white space.
_PLAIN = (
    r"^[\P{Cc}\t\r\n&&[^\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}"
    r"\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FFFE}\x{FFFF}]]*$"
)


class OrAbsent:
    """Annotation: a value that does not validate reads as None instead of raising."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=None, on_error="default")


def clean(text: str) -> str | None:
    """Make a valid FHIR string; None if blank.

    Control characters are dropped, unusual white space becomes a space, and white space around the text is no part of
    it: servers that validate object to it.
    """
    if not text.isprintable():  # printable text has no control characters and no white space other than the space
        text = _UNCLEAN.sub(lambda found: " " if unicodedata.category(found[0])[0] == "Z" else "", text)
    return text.strip(" \t\r\n") or None


def absent(value: Any) -> bool:
    """Return whether a JSON value is absent: null, blank, an empty list or object (mapping.md §1, rule 5)."""
    return value is None or value in ("", [], {}) or (isinstance(value, str) and value.isspace())


def _without_content_is_absent(text: str) -> str | None:
    text = text.strip(" \t\r\n")
    return text if text and text != REDACTED else None


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is no number")  # noqa: TRY004  # pydantic takes ValueError as "does not validate"
    if isinstance(value, float):
        return Decimal(repr(value))
    return value


def _number_as_text(value: Any) -> Any:
    if value.__class__ is str or isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    try:
        return decimal_text(value)
    except ValueError:  # not finite, or too long to be written
        return None


def _id(text: str | None) -> str | None:
    return None if text is None or is_placeholder(text) else trimmed(text)


def is_placeholder_id(value: Any) -> bool:
    """Return whether a JSON value, sent for an id, is a placeholder (mapping.md §2.6)."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal) or absent(value):
        return False
    text = _number_as_text(value)
    cleaned = clean(text) if text is not None else None
    return cleaned is not None and is_placeholder(cleaned)


def _items(value: Any) -> Any:
    if isinstance(value, list):
        return value
    if numbered := items_by_number(value):
        return [item for _, item in numbered]
    return () if value is None else (value,)


Text = Annotated[
    Annotated[str, StringConstraints(pattern=_PLAIN), AfterValidator(_without_content_is_absent)]
    | Annotated[str, AfterValidator(clean)]
    | None,
    OrAbsent(),
]
"""A str or None: a string, or a number read as one, cleaned to a FHIR string (`clean`) and otherwise verbatim."""

Shortest = Annotated[Text, BeforeValidator(_number_as_text)]
"""A `Text`, numbers in shortest decimal form: 72, 72.0 and ``"72"`` are one (mapping.md §4.1)."""


class IdMark:
    """Annotation that tells an id from other texts: the ledger ignores and flags a placeholder (mapping.md §2.6)."""


Id = Annotated[Shortest, AfterValidator(_id), IdMark()]
"""A `Shortest` for ids, without white space and invisible marks around it.

A placeholder such as ``undefined`` or ``0`` reads as None, with flag ``placeholder-id``.
"""

Number = Annotated[
    Annotated[Decimal, Field(max_digits=48, decimal_places=18)] | None, BeforeValidator(_number), OrAbsent()
]
"""A Decimal or None: a number, or a string that holds only a number; exact, up to 30 digits before the point.

Write it to FHIR with `fhir.elements.decimal` or `fhir.elements.integer`.
"""

Flagged = Annotated[bool | None, OrAbsent()]
"""A bool or None."""

T = TypeVar("T")
Maybe = Annotated[T | None, OrAbsent()]
"""An object read by model T; None where something else was sent."""

Items = Annotated[tuple[Annotated[T | None, OrAbsent()], ...], BeforeValidator(_items)]
"""A tuple of items read as T. An unreadable item is None, so that the others keep their positions."""


DOCUMENT = "document"
"""Annotation: a field whose content may be cut where an event is too large (mapping.md §1.1): notes, chats, answers."""


class Payload(BaseModel):
    """Base class of every payload model. Unknown fields are not read; the ledger keeps them.

    ``read_whole``: the mapping reads unknown fields as well, so that they are documents (mapping.md §1.1).
    """

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)
    read_whole: ClassVar[bool] = False
