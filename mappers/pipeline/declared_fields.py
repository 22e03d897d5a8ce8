"""The fields that a payload model declares, and which of them are documents (mapping.md §1.1)."""

from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from fhirline.mappers.payload import DOCUMENT, Payload


class Field(NamedTuple):
    """A field of a payload model: the model of its objects, whether it is a list, and whether it is a document.

    Documents are fields with the mark `payload.DOCUMENT`, and fields whose objects have no model.
    """

    model: type[Payload] | None
    many: bool
    document: bool


@cache
def declared_fields(model: type[Payload]) -> dict[str, Field]:
    """Return JSON name → Field of a payload model."""
    return {
        field.alias or name: Field(
            _model_in(field.annotation),
            get_origin(field.annotation) is tuple,
            DOCUMENT in field.metadata or _free_form(field.annotation),
        )
        for name, field in model.model_fields.items()
    }


def _free_form(annotation: Any) -> bool:
    """Return whether an annotation allows objects of any shape."""
    return annotation is Any or get_origin(annotation) is dict or any(map(_free_form, get_args(annotation)))


def _model_in(annotation: Any) -> type[Payload] | None:
    """Return the payload model that an annotation contains; None where it contains none."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return annotation if issubclass(annotation, Payload) else None
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
