"""The fields that a payload model declares, read from its annotations for the ledger, schema drift and bounds."""

from functools import cache
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from fhirline.mappers.payload import DOCUMENT, IdMark, Payload
from fhirline.mappers.pipeline.leaf import Rule


class Field(NamedTuple):
    """A field of a payload model.

    ``attribute``: its name in the model. ``rule``: its treatment (mapping.md §1, rule 2), if it has one of its own.
    ``is_id``: whether it is an id (`payload.Id`). ``model``: the model of its objects. ``many``: whether it is a list.
    ``document``: it has the mark `payload.DOCUMENT`, or its objects have no model (§1.1).
    """

    attribute: str
    rule: Rule | None
    is_id: bool
    model: type[Payload] | None
    many: bool
    document: bool


@cache
def declared_fields(model: type[BaseModel]) -> dict[str, Field]:
    """Return JSON name → Field of a payload model."""
    return {
        field.alias or name: Field(
            name,
            next((mark for mark in field.metadata if isinstance(mark, Rule)), None),
            any(isinstance(mark, IdMark) for mark in field.metadata),
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
