"""Validation of ``meta`` by lookup: few sets of labels exist, and each is validated once."""

import re
from typing import Any

import orjson
from pydantic_core import CoreSchema, core_schema

from fhirline.mappers.fhir.validation.primitives import PLAIN
from fhirline.mappers.results import Element

MOST = 10_000
"""Sets of labels that are cached: vendors times event types times combinations of flags."""

_uri = re.compile(PLAIN["uri"]).fullmatch
_MEMBERS = {"source", "security", "tag"}


def labelled(meta: CoreSchema) -> CoreSchema:
    """Wrap the schema of ``meta`` so that it runs only for labels (``security``, ``tag``) not yet found valid.

    The labels' validity depends on their bytes alone. ``source`` names the event and is always checked.
    """
    valid: set[bytes] = set()

    def check(value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Element:
        if type(value) is not dict or value.keys() != _MEMBERS or type(value["source"]) is not str:
            return handler(value)  # type: ignore[no-any-return]  # a typed dict's
        labels = orjson.dumps((value["security"], value["tag"]))
        if labels in valid and _uri(value["source"]):
            return value
        checked: Element = handler(value)
        if checked == value and len(valid) < MOST:
            valid.add(labels)
        return checked

    return core_schema.no_info_wrap_validator_function(check, meta)
