"""JSON as the lines of a page, each with its JSON Pointer and, for a resource's element, its source."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fhirline.mappers.json_pointer import escape
from fhirline.topics.declared import PATIENTLESS_TYPES

_STEERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\x7f-\x9f\u2028\u2029]")


def _json(value: Any) -> str:
    r"""Write a value as JSON. Characters that steer the direction of text, or the line, are escapes.

    >>> _json("gpj.\u202egnp")
    '"gpj.\\u202egnp"'
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


class Line(NamedTuple):
    """One line. ``depth``: of its indentation. ``pointer``: the value's JSON Pointer. ``source``: its origin."""

    depth: int
    key: str
    text: str
    pointer: str
    source: str


def json_lines(value: Any, sources: Mapping[tuple[str, str], str] | None = None, resource: str = "") -> list[Line]:
    """Make the lines of a JSON value.

    ``sources``: (``Type/id``, path of an element) → source, as `mappers.pipeline.lineage` tells it. ``resource``: the
    value's ``Type/id``, if it is a resource.

    >>> [(line.depth, line.key, line.text) for line in json_lines({"a": [1, "x"]})]
    [(0, '', '{'), (1, '"a": ', '['), (2, '', '1,'), (2, '', '"x"'), (1, '', ']'), (0, '', '}')]
    """
    return list(_lines(value, 0, "", "", "", resource.partition("/")[0], sources or {}, resource))


def _lines(
    value: Any,
    depth: int,
    key: str,
    end: str,
    pointer: str,
    path: str,
    sources: Mapping[tuple[str, str], str],
    resource: str,
) -> Iterator[Line]:
    if not (isinstance(value, dict | list) and value):
        text = _json(value)
        yield Line(depth, key, text + end, pointer, sources.get((resource, path), ""))
        return
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    yield Line(depth, key, opened, pointer, "")
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for place, (name, item) in enumerate(items):
        comma = "," if place + 1 < len(items) else ""
        if isinstance(value, dict):
            label, below = f"{_json(name)}: ", f"{path}.{name}"
        else:
            label, below = "", f"{path}[{name}]"
        yield from _lines(item, depth + 1, label, comma, f"{pointer}/{escape(str(name))}", below, sources, resource)
    yield Line(depth, "", closed + end, pointer, "")


def resource_lines(
    bundle: Any, sources: Mapping[tuple[str, str], str] | None = None
) -> list[tuple[str, bool, list[Line]]]:
    """Make the lines of each resource of a Bundle: ``Type/id``, whether it is the event's own, and the lines.

    Those that many events share (`PATIENTLESS_TYPES`) and the Provenance come last.
    """
    resources = [entry["resource"] for entry in (bundle or {}).get("entry", ()) if "resource" in entry]
    named = [(f"{resource['resourceType']}/{resource.get('id', '')}", resource) for resource in resources]
    made = [
        (name, resource["resourceType"] not in _BESIDE, json_lines(resource, sources, name)) for name, resource in named
    ]
    return sorted(made, key=lambda item: not item[1])


_BESIDE = PATIENTLESS_TYPES | {"Provenance"}
