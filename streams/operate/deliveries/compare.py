"""Comparing a resource with what a FHIR server has of it. Pure (fhir-delivery.md §9).

A server may write some things in its own way, which is no difference: ``meta.versionId`` and ``meta.lastUpdated``, and
whatever else of ``meta`` we do not send; the fragment of ``meta.source``, where HAPI puts a request's id; the order of
labels, tags and profiles, which are sets; the white space and quoting of a narrative's XML.
"""

from typing import Any
from xml.etree.ElementTree import ParseError, canonicalize

import orjson

Resource = dict[str, Any]

SETS = ("profile", "security", "tag")


def same(ours: Resource, theirs: Resource) -> bool:
    """Tell whether a server has our resource.

    >>> ours = {"resourceType": "Slot", "meta": {"source": "urn:x#1", "tag": [{"code": "a"}, {"code": "b"}]}}
    >>> same(ours, {**ours, "meta": {"source": "urn:x#2", "tag": [{"code": "b"}, {"code": "a"}], "versionId": "7"}})
    True
    >>> same(ours, {**ours, "status": "free"})
    False
    """
    if ours == theirs:
        return True
    names = ours.get("meta", {}).keys()
    try:
        return _comparable(ours, names) == _comparable(theirs, names)
    except (RecursionError, orjson.JSONEncodeError):
        return False  # nested more deeply than anything of ours


def _comparable(resource: Resource, names: Any) -> Resource:
    held = resource.get("meta")
    meta = {name: value for name, value in held.items() if name in names} if isinstance(held, dict) else {}
    if isinstance(source := meta.get("source"), str):
        meta["source"] = source.partition("#")[0]
    for name in SETS:
        if isinstance(value := meta.get(name), list):
            meta[name] = sorted(value, key=orjson.dumps)
    compared: Resource = _narratives({**resource, "meta": meta})
    return compared


def _narratives(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _xml(item) if name == "div" else _narratives(item) for name, item in value.items()}
    return [_narratives(item) for item in value] if isinstance(value, list) else value


def _xml(value: Any) -> Any:
    try:
        return canonicalize(value) if isinstance(value, str) else value
    except (ParseError, ValueError):
        return value
