"""``meta``: its labels are few and stand on every resource, so that what was found valid once is looked up."""

import re
from typing import Any

import orjson
from pydantic_core import CoreSchema, core_schema

from fhirline.mappers.fhir.validation.primitives import PLAIN
from fhirline.mappers.results import Element

MOST = 10_000
"""Label sets that are remembered: vendors times event types times flags that come together."""

_uri = re.compile(PLAIN["uri"]).fullmatch
_MEMBERS = {"source", "security", "tag"}


def labelled(meta: CoreSchema) -> CoreSchema:
    """The schema ``meta``, asked only about labels (``security``, ``tag``) that were not found valid before.

    The same bytes are the same labels, and whether they are valid depends on nothing else. ``source`` names the event,
    so that it is always checked.
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
