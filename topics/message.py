"""One kind of record, as `topics.messages` and `topics.encrypted_messages` describe them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhirline.topics import examples as synthetic
from fhirline.topics.headers import HeaderSet

Schema = Mapping[str, Any]
"""A JSON Schema."""

JSON = "application/json"
NO_HEADERS = HeaderSet("No", (), ())


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of record. ``name`` is unique; ``examples`` are synthetic."""

    name: str
    summary: str
    key: Schema
    headers: HeaderSet
    payload: Schema
    content_type: str = JSON
    examples: tuple[synthetic.Example, ...] = ()


def text(pattern: str, description: str) -> Schema:
    """Make the schema of a text that matches a regular expression."""
    return {"type": "string", "pattern": pattern, "description": description}
